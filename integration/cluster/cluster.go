// Package cluster gives tests and benchmarks several hosts on one machine, joined
// by an underlay, and what an overlay needs beside them: a real etcd, agents,
// traffic that counts its losses, and a comparison of a host's overlay with what
// is wanted.
//
// A [Host] is a sandbox.Host with a name, state folders of its own and an eth0 on
// the underlay. Nothing reaches the machine's interfaces, routes, firewall or state.
// Every process is ended by its ID in [Cluster.Close], and by the kernel when the
// process that started it ends in another way. It needs root, and for [Cluster.Etcd]
// Debian's etcd-server and etcd-client.
package cluster

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/integration/sandbox"
)

// The underlay's prefixes (RFC 1918, RFC 4193). Host n has n in its last byte.
var (
	Underlay4 = netip.MustParsePrefix("192.168.77.0/24")
	Underlay6 = netip.MustParsePrefix("fd77::/64")
)

// EtcdNumber is the host number of the first member of etcd.
const EtcdNumber = 250

// Cluster is the underlay, a switch without ports at first, and the hosts on it.
// Its methods are for one goroutine at a time.
type Cluster struct {
	Hosts  []*Host // those that [Cluster.Host] made, in that order
	mtu    int
	wire   *sandbox.Host // where the bridge is
	others []*Host       // etcd's
}

// Options are an underlay's properties.
type Options struct {
	MTU int // bytes; 0 is 1500
}

// New makes an underlay.
func New(o Options) (*Cluster, error) {
	if o.MTU == 0 {
		o.MTU = 1500
	}
	wire, err := sandbox.New()
	if err != nil {
		return nil, err
	}
	c := &Cluster{mtu: o.MTU, wire: wire}
	// A bridge without STP forwards at once; without snooping it never holds back
	// neighbour discovery.
	err = wire.Script(fmt.Sprintf(`
		ip link add wire mtu %d type bridge mcast_snooping 0
		ip link set wire addrgenmode none
		ip link set wire up
		nft add table bridge wire
		nft add chain bridge wire forward { type filter hook forward priority 0; }`, o.MTU))
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("make underlay: %w", err)
	}
	return c, nil
}

// Close ends every process, then lets go of every namespace. It takes at most a few
// seconds.
func (c *Cluster) Close() {
	for _, h := range slices.Concat(c.Hosts, c.others) {
		h.Close()
	}
	c.wire.Close()
}

// Remove ends one host as if its power was cut.
func (c *Cluster) Remove(h *Host) {
	c.Hosts = slices.DeleteFunc(c.Hosts, func(o *Host) bool { return o == h })
	h.Close()
	_, _ = c.wire.Output("ip", "link", "del", h.port()) // the namespace may have taken it along
}

// Cut takes the carrier from the host's eth0, [Cluster.Mend] gives it back.
func (c *Cluster) Cut(h *Host) error { return c.set(h, "down") }

// Mend is the opposite of [Cluster.Cut].
func (c *Cluster) Mend(h *Host) error { return c.set(h, "up") }

func (c *Cluster) set(h *Host, state string) error {
	_, err := c.wire.Output("ip", "link", "set", h.port(), state)
	return err
}

// DropUDP has the underlay drop what is sent to a UDP port on all hosts, or only on
// those named.
func (c *Cluster) DropUDP(port uint16, to ...*Host) error {
	return c.drop(fmt.Sprintf("udp dport %d", port), to)
}

// DropLarger has the underlay drop packets of more bytes than that, silently, as a
// path does whose MTU nobody knows.
func (c *Cluster) DropLarger(bytes int, to ...*Host) error {
	return c.drop(fmt.Sprintf("meta length > %d", bytes), to)
}

func (c *Cluster) drop(match string, to []*Host) error {
	if len(to) == 0 {
		return c.wire.Script("nft add rule bridge wire forward " + match + " counter drop")
	}
	for _, h := range to {
		if err := c.wire.Script("nft add rule bridge wire forward oifname " + h.port() + " " + match + " counter drop"); err != nil {
			return err
		}
	}
	return nil
}

// Clear takes back every DropUDP and DropLarger.
func (c *Cluster) Clear() error { return c.wire.Script("nft flush chain bridge wire forward") }
