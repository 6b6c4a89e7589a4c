package cluster

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
	"github.com/berth-cni/berth/pkg/overlay"
)

var blue = overlay.Network{
	Name: "blue", VNI: 4242, Port: overlay.DefaultPort,
	Subnets:    []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16"), netip.MustParsePrefix("fd00:42::/48")},
	NodePrefix: []int{24, 64},
}

// peer is a host's part in the network blue.
func peer(h *Host, mtu int, underlay6 bool) Peer {
	p := Peer{Name: h.Name, Address: h.Addr4, MTU: mtu - 50}
	if underlay6 {
		p.Address, p.MTU = h.Addr6, mtu-70
	}
	p.Blocks = []netip.Prefix{
		netip.MustParsePrefix(fmt.Sprintf("10.42.%d.0/24", h.Number)),
		netip.MustParsePrefix(fmt.Sprintf("fd00:42:0:%d::/64", h.Number)),
	}
	return p
}

func newCluster(t testing.TB, hosts int, o Options) *Cluster {
	t.Helper()
	c, err := New(o)
	must(t, err)
	t.Cleanup(c.Close)
	for i := range hosts {
		_, err := c.Host(string(rune('a'+i)), i+1)
		must(t, err)
	}
	return c
}

// byHand builds the network blue on all hosts, with a container on each.
func byHand(t testing.TB, c *Cluster, mtu int, underlay6 bool) (peers []Peer, containers []*sandbox.Container, addrs [][]netip.Addr) {
	t.Helper()
	for _, h := range c.Hosts {
		peers = append(peers, peer(h, mtu, underlay6))
	}
	for i, h := range c.Hosts {
		must(t, h.ByHand(blue, peers[i], peers))
		ctr, as, err := h.ContainerByHand(blue, peers[i], "c-"+h.Name, 1)
		must(t, err)
		containers, addrs = append(containers, ctr), append(addrs, as)
	}
	// The kernel may take a second to see that a new bridge has a carrier.
	for _, to := range addrs[1:] {
		for _, a := range to {
			must(t, Until(5*time.Second, func() error {
				_, err := containers[0].Output("ping", "-c1", "-W1", a.String())
				return err
			}))
		}
	}
	return peers, containers, addrs
}

// TestByHand builds the wanted state by hand, finds it, and has all containers reach
// each other with their own addresses, over underlays of both families.
func TestByHand(t *testing.T) {
	t.Parallel()
	for _, underlay6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("underlay6=%v", underlay6), func(t *testing.T) {
			c := newCluster(t, 3, Options{})
			peers, containers, addrs := byHand(t, c, 1500, underlay6)
			for i, h := range c.Hosts {
				same(t, h, Wanted(blue, peers[i], peers))
			}
			for i, from := range containers {
				for j, to := range containers {
					for family, a := range addrs[j] {
						if err := reach(from, to, a, addrs[i][family]); err != nil {
							t.Error(err)
						}
					}
				}
			}
			// What nobody owns is refused at once.
			if _, err := containers[0].Ask("10.42.200.1:80"); err == nil || !strings.Contains(err.Error(), "route to host") && !strings.Contains(err.Error(), "unreachable") {
				t.Errorf("an address that nobody owns: %v", err)
			}
		})
	}
}

// reach returns nil when one container gets an answer of the other, at its address,
// which saw the source.
func reach(from, to *sandbox.Container, address, source netip.Addr) error {
	at := netip.AddrPortFrom(address, 80).String()
	stop, err := to.Serve(at)
	if err != nil {
		return err
	}
	defer stop()
	got, err := from.Ask(at)
	if want := to.ID + " " + source.String(); err != nil || got != want {
		return fmt.Errorf("%s asks %s: %q (%v), want %q", from.ID, address, got, err, want)
	}
	return nil
}

// same fails the test unless the host has what is wanted, and no more; the firewall apart,
// which nobody makes by hand.
func same(t *testing.T, h *Host, want sandbox.Snapshot) {
	t.Helper()
	got, err := h.Overlay(blue)
	must(t, err)
	if diff := want.Without("firewall").Diff(got.Without("firewall")); diff != nil {
		t.Errorf("host %s:\n%s", h.Name, strings.Join(diff, "\n"))
	}
}

// TestDifference takes one thing away after the other, and the comparison sees each.
func TestDifference(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, Options{})
	peers := []Peer{peer(c.Hosts[0], 1500, false), peer(c.Hosts[1], 1400, false)}
	h := c.Hosts[0]
	must(t, h.ByHand(blue, peers[0], peers))
	want := Wanted(blue, peers[0], peers)
	same(t, h, want)
	mac := overlay.MAC(blue.Name, "b").String()
	for _, change := range []struct{ command, sees string }{
		{"ip route del 10.42.2.0/24", "- route: 10.42.2.0/24 via 10.42.2.0 onlink proto 98 mtu 1350"},
		{"ip route add blackhole 10.42.9.0/24", "+ route: blackhole 10.42.9.0/24"},
		{"ip -6 route del fd00:42::/48", "- route: unreachable fd00:42::/48 metric 4278198272 proto 98"},
		{"bridge fdb del " + mac + " dev vxlan4242 dst 192.168.77.2", "- fdb: " + mac + " dst 192.168.77.2 permanent"},
		{"ip neigh del fd00:42:0:2:: dev vxlan4242", "- neighbour: fd00:42:0:2:: " + mac},
		{"ip link set vxlan4242 mtu 1300", "+ link: "},
		{"ip addr del 10.42.1.0/32 dev vxlan4242", "- address: 10.42.1.0/32"},
		{"ip link del vxlan4242", "- link: "},
	} {
		must(t, h.Script(change.command))
		got, err := h.Overlay(blue)
		must(t, err)
		if diff := strings.Join(want.Diff(got), "\n"); !strings.Contains(diff, change.sees) {
			t.Errorf("after %q no %q in\n%s", change.command, change.sees, diff)
		}
	}
}

// TestFlow cuts a path for a while: the flow counts what was lost then and nothing
// else, the stream goes on.
func TestFlow(t *testing.T) {
	c := newCluster(t, 2, Options{})
	a, b := c.Hosts[0], c.Hosts[1]
	for _, addr := range []netip.Addr{b.Addr4, b.Addr6} {
		whole, err := StartFlow(a, b, addr, time.Millisecond)
		must(t, err)
		time.Sleep(300 * time.Millisecond)
		if r := whole.Stop(); r.Lost() != 0 || r.Sent == 0 { // how many, and how regularly, a busy machine decides
			t.Errorf("undisturbed flow: %v", r)
		}
	}
	flow, err := StartFlow(a, b, b.Addr4, time.Millisecond)
	must(t, err)
	stream, err := StartStream(a, b, b.Addr4)
	must(t, err)
	time.Sleep(200 * time.Millisecond)
	must(t, c.Cut(b))
	time.Sleep(300 * time.Millisecond)
	must(t, c.Mend(b))
	time.Sleep(time.Second)
	r, s := flow.Stop(), stream.Stop()
	t.Log(r)
	t.Log(s)
	if lost := r.Lost(); lost < 200 || lost > 1200 || r.Longest < 250*time.Millisecond {
		t.Errorf("0.3 s without carrier: %v", r)
	}
	if s.Received != s.Sent || s.Err != nil || s.Retransmitted == 0 || s.Longest < 250*time.Millisecond {
		t.Errorf("stream over 0.3 s without carrier: %v", s)
	}
}

// TestUnderlay drops and renumbers.
func TestUnderlay(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, Options{MTU: 1400})
	a, b := c.Hosts[0], c.Hosts[1]
	ping := func(args ...string) error {
		_, err := a.Output("ping", append([]string{"-c1", "-W1"}, args...)...)
		return err
	}
	must(t, ping("-s", "1372", "-Mdo", b.Addr4.String()))
	if ping("-s", "1373", "-Mdo", b.Addr4.String()) == nil {
		t.Error("1401 bytes went over an underlay of 1400")
	}
	must(t, c.DropLarger(1200, b))
	if ping("-s", "1300", b.Addr4.String()) == nil {
		t.Error("a packet larger than what goes through went through")
	}
	must(t, c.Clear())
	must(t, c.DropUDP(4789, b))
	echo := func(address netip.AddrPort) error {
		stop, err := serveUDP(b, address)
		must(t, err)
		defer stop()
		return askUDP(a, address)
	}
	if echo(netip.AddrPortFrom(b.Addr4, 4789)) == nil {
		t.Error("the port that is dropped answers")
	}
	must(t, echo(netip.AddrPortFrom(b.Addr6, 4790)))
	must(t, c.Clear())
	must(t, echo(netip.AddrPortFrom(b.Addr4, 4789)))
	old := b.Addr4
	must(t, b.Renumber(9))
	must(t, ping(b.Addr4.String()))
	must(t, ping(b.Addr6.String()))
	if ping(old.String()) == nil {
		t.Error("the old address answers")
	}
	must(t, b.DefaultRoute(a))
	if out, err := b.Output("ip", "route", "get", "198.51.100.1"); err != nil || !strings.Contains(out, a.Addr4.String()) {
		t.Errorf("default route: %s %v", out, err)
	}
	c.Remove(b)
	if ping(b.Addr4.String()) == nil {
		t.Error("a host that was removed answers")
	}
}

// TestProcess ends processes in all ways, and leaves none.
func TestProcess(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, Options{})
	h := c.Hosts[0]
	p, err := h.Start("sh", "-c", "echo here; exec sleep 100")
	must(t, err)
	must(t, Until(time.Second, func() error {
		if p.Log() != "here\n" {
			return fmt.Errorf("log %q", p.Log())
		}
		return nil
	}))
	if err := p.Stop(); err == nil || p.Running() {
		t.Errorf("stopped by SIGTERM: %v, running %v", err, p.Running())
	}
	if _, err := h.Start("/nonexistent"); err == nil {
		t.Error("a program that is not there was started")
	}
	if p, err = h.Start("sleep", "100"); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := syscall.Kill(p.Pid, 0); err != syscall.ESRCH {
		t.Errorf("after Close: process %d: %v", p.Pid, err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
