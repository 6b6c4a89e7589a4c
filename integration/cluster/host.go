package cluster

import (
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"github.com/berth-cni/berth/integration/sandbox"
)

// Host is one machine of a cluster. Its sandbox.Host runs programs and CNI plugins
// in it, and makes containers.
type Host struct {
	*sandbox.Host
	Name   string
	Number int
	// Addr4 and Addr6 are its underlay addresses, on eth0.
	Addr4, Addr6 netip.Addr

	mu        sync.Mutex
	processes []*Process
}

// Host makes a host and joins it to the underlay: eth0 with the addresses of its
// number (1 to 249), both families, up. The name is at most 13 bytes long.
func (c *Cluster) Host(name string, number int) (*Host, error) {
	h, err := c.join(name, number)
	if err == nil {
		c.Hosts = append(c.Hosts, h)
	}
	return h, err
}

// Other is [Cluster.Host] for a host that is none of [Cluster.Hosts]: a store's.
func (c *Cluster) Other(name string, number int) (*Host, error) {
	h, err := c.join(name, number)
	if err == nil {
		c.others = append(c.others, h)
	}
	return h, err
}

func (c *Cluster) join(name string, number int) (*Host, error) {
	inner, err := sandbox.New()
	if err != nil {
		return nil, err
	}
	h := &Host{Host: inner, Name: name, Number: number, Addr4: numbered(Underlay4, number), Addr6: numbered(Underlay6, number)}
	if err := h.furnish(); err != nil {
		h.Close()
		return nil, fmt.Errorf("make host %s: %w", name, err)
	}
	err = c.wire.Script(fmt.Sprintf(`
		ip link add %[1]s mtu %[2]d type veth peer name eth0 mtu %[2]d netns %[3]s
		ip link set %[1]s addrgenmode none
		ip link set %[1]s master wire up`, h.port(), c.mtu, h.NetnsPath()))
	if err == nil {
		err = h.Script(fmt.Sprintf(`
			ip link set eth0 up
			ip addr add %s/%d dev eth0
			ip addr add %s/%d dev eth0 nodad`, h.Addr4, Underlay4.Bits(), h.Addr6, Underlay6.Bits()))
	}
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("join host %s: %w", name, err)
	}
	return h, nil
}

// furnish mounts what only this host has.
func (h *Host) furnish() error {
	return h.Do(func() error { return os.Mkdir(logDir, 0o755) })
}

// port is the name of the underlay's end of eth0.
func (h *Host) port() string { return "p-" + h.Name }

// numbered is the address of a prefix with that last byte.
func numbered(p netip.Prefix, number int) netip.Addr {
	b := p.Addr().AsSlice()
	b[len(b)-1] = byte(number)
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

// DefaultRoute sends what the host has no route for to another host of the underlay.
func (h *Host) DefaultRoute(via *Host) error {
	return h.Script(fmt.Sprintf(`
		ip route replace default via %s dev eth0
		ip -6 route replace default via %s dev eth0`, via.Addr4, via.Addr6))
}

// Renumber gives eth0 the addresses of another number, and takes the old ones away.
// Routes through eth0 are lost, as when a DHCP server changes its mind.
func (h *Host) Renumber(number int) error {
	old4, old6 := h.Addr4, h.Addr6
	h.Number, h.Addr4, h.Addr6 = number, numbered(Underlay4, number), numbered(Underlay6, number)
	return h.Script(fmt.Sprintf(`
		ip addr del %[1]s/%[5]d dev eth0
		ip addr del %[2]s/%[6]d dev eth0
		ip addr add %[3]s/%[5]d dev eth0
		ip addr add %[4]s/%[6]d dev eth0 nodad`, old4, old6, h.Addr4, h.Addr6, Underlay4.Bits(), Underlay6.Bits()))
}

// Close ends the host's processes, and lets go of it.
func (h *Host) Close() {
	h.mu.Lock()
	processes := h.processes
	h.processes = nil
	h.mu.Unlock()
	for _, p := range processes {
		p.Kill()
	}
	_ = h.Do(func() error {
		for _, pid := range Tunnels() { // which outlive their agent
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return nil
	})
	h.Host.Close()
}
