package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// dhcpServer is dnsmasq on the outside's end of the cable, with the reference's dhcp
// daemon on the host.
type dhcpServer struct {
	*bed
	leases, log string // files
	daemonLog   string
}

// dhcp starts both. The lease is renewed after three seconds. serve says whether there is a
// server at all; without one the daemon gives up after a second.
func (b *bed) dhcp(serve bool) *dhcpServer {
	b.t.Helper()
	dir := b.t.TempDir()
	s := &dhcpServer{b, filepath.Join(dir, "leases"), filepath.Join(dir, "dnsmasq"), filepath.Join(dir, "daemon")}
	if serve {
		b.background(s.log, "ip", "netns", "exec", "outside", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root",
			"--interface=eth0", "--bind-interfaces", "--port=0", "--dhcp-range=192.0.2.100,192.0.2.150,255.255.255.0,2m",
			"--no-ping", "--dhcp-option=58,3", "--dhcp-option=59,100", "--dhcp-leasefile="+s.leases, "--log-facility=-", "--pid-file="+filepath.Join(dir, "pid"))
		b.soon(func() error { return contains(s.log, "DHCP, sockets bound exclusively") })
	}
	must(b.t, b.Script("mkdir -p /run/cni"))
	b.background(s.daemonLog, filepath.Join(b.ref, "dhcp"), "daemon", "-timeout=1s", "-resendmax=1s", "-resendtimeout=2s")
	b.soon(func() error {
		return b.Do(func() error { _, err := os.Stat("/run/cni/dhcp.sock"); return err })
	})
	return s
}

// background runs a program on the host until the test ends.
func (b *bed) background(log, name string, args ...string) {
	b.t.Helper()
	out, err := os.Create(log)
	must(b.t, err)
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	must(b.t, b.Do(cmd.Start))
	b.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		out.Close()
		if b.t.Failed() {
			text, _ := os.ReadFile(log)
			b.t.Logf("%s:\n%s", name, text)
		}
	})
}

func contains(file, text string) error {
	have, err := os.ReadFile(file)
	if err == nil && !strings.Contains(string(have), text) {
		err = fmt.Errorf("no %q in %s", text, file)
	}
	return err
}

// lease is the address that the server has leased to a MAC.
func (s *dhcpServer) lease(mac string) string {
	text, _ := os.ReadFile(s.leases)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == mac {
			return f[2]
		}
	}
	return ""
}

// dhcpNetworks are the plugins by which a container is on the cable.
var dhcpNetworks = map[string]string{
	"macvlan":         `{"type": "macvlan", "master": "uplink0", %s}`,
	"macvlan private": `{"type": "macvlan", "master": "uplink0", "mode": "private", %s}`,
	"host shim":       `{"type": "macvlan", "master": "uplink0", "hostShim": true, %s}`,
	"bridge":          `{"type": "bridge", "bridge": "lan0", "icc": true, %s}`,
	"protected port":  `{"type": "bridge", "bridge": "lan0", "portIsolation": true, "mac": "x", "capabilities": {"mac": true}, %s}`,
}

// lanBridge makes the host's uplink a port of a bridge, which is the host's interface then.
const lanBridge = `
	ip link add lan0 type bridge
	ip addr flush dev uplink0
	ip link set uplink0 master lan0
	ip addr add 192.0.2.1/24 dev lan0
	ip link set lan0 up`

// TestDHCP: the reference's dhcp gets a lease through the container's interface, of the MAC
// that this keeps, renews it and gives it back.
func TestDHCP(t *testing.T) {
	t.Parallel()
	for name, plugin := range dhcpNetworks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			if strings.Contains(plugin, "lan0") {
				must(t, b.Script(lanBridge))
			}
			s := b.dhcp(true)
			n := b.network(fmt.Sprintf(plugin, `"ipam": {"type": "dhcp"}`))
			first := b.container("first")
			b.add(n, first)
			must(t, n.Del(first))
			must(t, first.Remove())
			before := b.snapshot()

			c := b.container("c1")
			r, addr := b.add(n, c)
			mac := r.Interfaces[len(r.Interfaces)-1].Mac
			if leased := s.lease(mac); addr == "" || leased != addr {
				t.Fatalf("the result has %q for %s, the server %q", addr, mac, leased)
			}
			if len(r.Routes) != 1 || r.Routes[0].GW != sandbox.OutsideAddr4 {
				t.Errorf("routes of the result: %+v", r.Routes)
			}
			have, err := c.Output("ip", "-o", "addr", "show", "dev", "eth0")
			must(t, err)
			if !strings.Contains(have, " "+addr+"/24 ") || strings.Contains(have, "inet6") {
				t.Errorf("addresses inside, want %s alone:\n%s", addr, have)
			}
			have, err = c.Output("ip", "link", "show", "dev", "eth0")
			must(t, err)
			if !strings.Contains(have, mac) {
				t.Errorf("the MAC is not %s any more:\n%s", mac, have)
			}
			_, err = c.Output("ping", "-c1", "-W5", sandbox.OutsideAddr4)
			must(t, err)

			b.soon(func() error { // the second DHCPACK of the lease
				text, _ := os.ReadFile(s.log)
				if strings.Count(string(text), "DHCPACK(eth0) "+addr+" "+mac) < 2 {
					return errors.New("the lease has not been renewed")
				}
				return nil
			})
			must(t, n.Check(c))
			must(t, n.Del(c))
			b.soon(func() error {
				if leased := s.lease(mac); leased != "" {
					return fmt.Errorf("the server still has %s leased", leased)
				}
				return nil
			})
			if err := contains(s.daemonLog, "failed to release"); err == nil {
				t.Error("the daemon could not release a lease")
			}
			must(t, n.Del(c)) // and again
			must(t, c.Remove())
			b.same(before, "after DEL")
		})
	}
}

// TestDHCPUnanswered: without a server the ADD fails, and leaves nothing.
func TestDHCPUnanswered(t *testing.T) {
	t.Parallel()
	for name, plugin := range dhcpNetworks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			if strings.Contains(plugin, "lan0") {
				must(t, b.Script(lanBridge))
			}
			b.dhcp(false)
			n := b.network(fmt.Sprintf(plugin, `"ipam": {"type": "dhcp"}`))
			c := b.container("c1")
			refused := func() {
				if _, err := n.Add(c); err == nil || !strings.Contains(err.Error(), "DHCP.Allocate") {
					t.Fatalf("ADD without a server: %v", err)
				}
			}
			refused() // what stays by design is in place
			before := b.snapshot()
			refused()
			b.same(before, "after the refusal")
			if out, err := c.Output("ip", "-o", "link"); err != nil || strings.Contains(out, "eth0") {
				t.Errorf("inside: %v\n%s", err, out)
			}
		})
	}
}
