package overlay

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/integration/sandbox"
)

// routedOn has the containers of some hosts attached without a bridge from now on.
func (b *bed) routedOn(hosts ...*cluster.Host) {
	for _, h := range hosts {
		b.routed[h] = true
	}
}

// noBridge fails the test if a host has one.
func (b *bed) noBridge(h *cluster.Host) {
	b.t.Helper()
	if out, err := h.Output("ip", "-br", "link", "show", "type", "bridge"); err != nil || out != "" {
		b.t.Errorf("%s has a bridge: %s, %v", h.Name, out, err)
	}
}

// TestRouted has hosts with and without a bridge in one network: containers reach each other
// on one host and across with their own addresses, and their hosts, published ports and the
// outside; the hosts stay as they are wanted, and a network that goes leaves nothing.
func TestRouted(t *testing.T) {
	b := newBed(t, 3, options{})
	one, three := b.Hosts[0], b.Hosts[2]
	b.routedOn(one, three)
	outside, err := b.Host("x", 66)
	must(t, err)
	var all []*place
	for i, h := range []*cluster.Host{one, one, b.Hosts[1], three} {
		all = append(all, b.container(h, fmt.Sprintf("c%d", i)))
	}
	b.reaches(all...)
	b.settled()
	b.noBridge(one)
	b.noBridge(three)
	for _, p := range all {
		must(t, pings(p, outside.Addr4.String()))
		must(t, pings(p, outside.Addr6.String()))
		for _, h := range b.members() {
			for _, a := range p.addrs {
				if err := pings(h, a.String()); err != nil {
					t.Errorf("host %s pings %s: %v", h.Name, a, err)
				}
			}
		}
	}
	port := sandbox.Cap("portMappings", []map[string]any{{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}})
	published := &place{host: three}
	published.Container, err = three.Container("published")
	must(t, err)
	published.addrs = b.attach(published, "blue", port)
	stop, err := published.Serve(":80")
	must(t, err)
	defer stop()
	for _, from := range []interface {
		Ask(string) (string, error)
	}{outside, one, all[0], all[2], all[3], published} {
		if got, err := from.Ask(netip.AddrPortFrom(three.Addr4, 8080).String()); err != nil || !strings.HasPrefix(got, "published ") {
			t.Errorf("published port: %q, %v", got, err)
		}
	}
	for i, p := range []*place{all[2], all[3]} { // on a bridge, and without: changed while they run
		stop, err := p.Serve(":80")
		must(t, err)
		defer stop()
		at := netip.AddrPortFrom(p.host.Addr4, 8081).String()
		must(t, berthOn(p.host, "port", "add", fmt.Sprintf("c%d", i+2), "8081:80"))
		if got, err := outside.Ask(at); err != nil || !strings.HasPrefix(got, p.ID+" ") {
			t.Errorf("port added on %s: %q, %v", p.host.Name, got, err)
		}
		must(t, berthOn(p.host, "port", "rm", fmt.Sprintf("c%d", i+2), "8081"))
		if got, err := outside.Ask(at); err == nil {
			t.Errorf("port withdrawn on %s: %q", p.host.Name, got)
		}
	}
	for _, p := range append(all, published) {
		opts := []sandbox.Option{sandbox.IfName("eth0")}
		if p == published {
			opts = []sandbox.Option{port}
		}
		must(t, b.network(p.host, "blue").Check(p.Container, opts...))
		must(t, b.network(p.host, "blue").Del(p.Container, opts...))
	}
	b.berth("network", "rm", "--force", "blue")
	b.eventually(patience, func() error {
		for _, h := range b.members() {
			for _, cmd := range []string{"ip -br link show type vxlan", "nft list set inet berth groups", "nft list set inet berth inside", "nft list set inet berth same"} {
				f := strings.Fields(cmd)
				out, err := h.Output(f[0], f[1:]...)
				if err != nil || strings.Contains(out, "vxlan") || strings.Contains(out, "elements") {
					return fmt.Errorf("%s: %s: %s %v", h.Name, cmd, out, err)
				}
			}
		}
		return nil
	})
}

// berthOn runs the people's program on a host.
func berthOn(h *cluster.Host, args ...string) error {
	out, err := h.Berth(args...)
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return err
}

// TestRoutedInternal: nothing enters or leaves an internal network without bridges, and
// nothing is between containers of one with no icc, on one host or across.
func TestRoutedInternal(t *testing.T) {
	for flag, reached := range map[string]bool{"--internal": true, "--no-icc": false} {
		t.Run(flag, func(t *testing.T) {
			b := newBed(t, 2, options{create: []string{"--subnet", "10.42.0.0/16", "--subnet", "fd00:42::/48", flag}})
			b.routedOn(b.Hosts...)
			b.create("green", "--subnet", "10.43.0.0/16", "--subnet", "fd00:43::/48")
			b.settledAll("green")
			outside, err := b.Host("x", 66)
			must(t, err)
			one, two, here := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two"), b.container(b.Hosts[0], "here")
			other := b.container(b.Hosts[1], "other", "green")
			if reached {
				b.reaches(one, two, here)
			}
			for i := range one.addrs {
				for _, p := range []*place{two, here} {
					if err := pings(one, p.addrs[i].String()); (err == nil) != reached {
						t.Errorf("%s pings %s: %v", flag, p.addrs[i], err)
					}
				}
				if flag == "--internal" && (pings(one, other.addrs[i].String()) == nil || pings(other, one.addrs[i].String()) == nil) {
					t.Error("an internal network and another one reach each other")
				}
			}
			if err := pings(one, outside.Addr4.String()); (err == nil) == (flag == "--internal") {
				t.Errorf("%s pings the outside: %v", flag, err)
			}
		})
	}
}

// TestRoutedEncrypted: nothing of an encrypted network without bridges is on the wire in the
// clear, and nothing is lost while keys are replaced.
func TestRoutedEncrypted(t *testing.T) {
	t.Parallel()
	b := newBed(t, 3, options{create: append([]string{"--internal"}, encrypted...)})
	b.routedOn(b.Hosts[:2]...)
	one, two, three := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two"), b.container(b.Hosts[2], "three")
	b.reaches(one, two, three)
	tap, err := b.Tap(nil, subnets...)
	must(t, err)
	flows := startFlows(t, one, two, three)
	b.rotate(b.Hosts[0])()
	time.Sleep(100 * time.Millisecond)
	complete(t, "keys rotated", flows)
	if r := tap.Stop(); r.Marked+r.Inner > 0 {
		t.Errorf("on the wire: %v", r)
	}
	b.reaches(one, two, three)
}

// TestRoutedNames: containers without a bridge find those of other hosts by name.
func TestRoutedNames(t *testing.T) {
	t.Parallel()
	b := newBed(t, 2, options{})
	b.create("town", "--subnet", "10.45.0.0/16")
	b.settledAll("town")
	b.routedOn(b.Hosts[0])
	one, two := b.nameless(b.Hosts[0], "town", "one"), b.nameless(b.Hosts[1], "town", "two")
	list := strings.Replace(string(one.n.List.Bytes), `"vxlan-overlay"`, `"vxlan-overlay", "mode": "routed"`, 1)
	var err error
	one.n, err = b.Hosts[0].Network(list, b.bin)
	must(t, err)
	must(t, one.add())
	must(t, two.add())
	b.noBridge(b.Hosts[0])
	b.eventually(patience, func() error { return one.finds("two", two) })
	b.eventually(patience, func() error { return two.finds("one", one) })
}
