package cnitest

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/steptest"
)

// Made is a mode that makes an interface on a bridge of the host.
type Made struct {
	Mode            cni.Mode
	Network, Bridge string
	// Backends are those of the firewall that it takes; none: all.
	Backends []string
	// Conf is the configuration but for its end.
	Conf string
	// Address is the n-th container's, of each family.
	Address func(n byte) []netip.Addr
}

func (m Made) key(container string) attach.Key {
	return attach.Key{Network: m.Network, Container: container, IfName: "eth0"}
}

// add adds a container, with step k faulty if f says so. The length of its name is its
// number.
func (m Made) add(t *testing.T, s *attach.Store, backend, container, netns string, k int, f steptest.Fault) (steps int, err error) {
	t.Helper()
	n := len(container)
	var ips []string
	for _, addr := range m.Address(byte(n) + 1) {
		ips = append(ips, addr.String())
	}
	a := adding(t, m.Mode, &cni.CmdArgs{ContainerID: container, IfName: "eth0", Netns: netns, Args: "IP=" + strings.Join(ips, ","),
		StdinData: fmt.Appendf(nil, `%s, "firewallBackend": %q, "runtimeConfig": {"portMappings": [
			{"hostPort": %d, "containerPort": 80}, {"hostPort": %[3]d, "containerPort": 80, "protocol": "udp"}]}}`,
			strings.TrimSuffix(m.Conf, "}"), backend, 8000+n)})
	steptest.Spoil(a.Steps, k, f)
	return len(a.Steps), s.Add(t.Context(), a)
}

// state is everything of the host and the namespace that an attachment could
// touch: the kernel's and the store's.
func (m Made) state(t *testing.T, s *attach.Store, netns string) string {
	t.Helper()
	ns := netns[strings.LastIndex(netns, "/")+1:]
	var b strings.Builder
	for _, cmd := range []string{"ip -o link", "ip -o address", "ip route", "ip -6 route", "bridge fdb", "nft -s list ruleset",
		"iptables-save", "ip6tables-save", "ip netns exec " + ns + " ip -o address", "ip netns exec " + ns + " ip route"} {
		f := strings.Fields(cmd)
		out, err := nstest.Output(f[0], f[1:]...)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(out, "\n") {
			// Packet counters, times, and the bridge's own group memberships move by
			// themselves, and so does an unused link-local address.
			if !strings.HasPrefix(line, "#") && !strings.Contains(line, "fe80::") && !strings.HasPrefix(line, "33:33:") {
				fmt.Fprintln(&b, stable(line))
			}
		}
	}
	all, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		fmt.Fprintln(&b, "record", a.Key)
	}
	err = s.View(t.Context(), func(tx *attach.Tx) error {
		for i := range byte(20) {
			for _, addr := range m.Address(i) {
				holder, ok := tx.Holder(m.Network, addr)
				fmt.Fprintln(&b, "lease", i, holder, ok)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// stable drops what follows the carrier and the clock.
func stable(line string) string {
	for _, w := range []string{"NO-CARRIER,", ",LOWER_UP", " linkdown", "state UP", "state DOWN", ",M-DOWN"} {
		line = strings.ReplaceAll(line, w, "")
	}
	if i := strings.Index(line, "["); i >= 0 && strings.HasPrefix(line, ":") { // iptables-save's counters
		line = line[:i]
	}
	return strings.TrimSpace(line)
}

// difference returns the lines that only one of the states has.
func difference(before, after string) string {
	var b strings.Builder
	only := func(mark, these, those string) {
		have := map[string]bool{}
		for _, line := range strings.Split(those, "\n") {
			have[line] = true
		}
		for _, line := range strings.Split(these, "\n") {
			if !have[line] {
				fmt.Fprintln(&b, mark, line)
			}
		}
	}
	only("gone:", before, after)
	only("left:", after, before)
	return b.String()
}

// FaultLeavesNothing: whichever step fails, and however, the kernel and the store are
// as before, and a neighbour is not touched.
func (m Made) FaultLeavesNothing(t *testing.T) {
	backends := m.Backends
	if backends == nil {
		backends = []string{"nftables", "iptables"}
	}
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			nstest.Host(t)
			t.Setenv(attach.DirEnv, t.TempDir())
			s := attach.New("", cni.Decode)
			neighbour, netns := nstest.Namespace(t), nstest.Namespace(t)
			// What is shared is there already, and a neighbour lives.
			steps, err := m.add(t, s, backend, "a", neighbour, 0, steptest.None)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.add(t, s, backend, "bb", netns, 0, steptest.None); err != nil {
				t.Fatal(err)
			}
			if err := s.Del(t.Context(), m.key("bb")); err != nil {
				t.Fatal(err)
			}
			before := m.state(t, s, netns)
			for k := range steps {
				for _, how := range steptest.Faults {
					if _, err := m.add(t, s, backend, "bb", netns, k, how); err == nil || !strings.Contains(err.Error(), "fault") {
						t.Fatalf("step %d, %s: %v", k, how, err)
					}
					if after := m.state(t, s, netns); after != before {
						t.Errorf("step %d, %s:\n%s", k, how, difference(before, after))
					}
				}
			}
			a, err := s.Get(t.Context(), m.key("a"))
			if err != nil {
				t.Fatal(err)
			}
			if err := attach.Check(t.Context(), a); err != nil {
				t.Errorf("the neighbour: %v", err)
			}
			if _, err := m.add(t, s, backend, "bb", netns, 0, steptest.None); err != nil {
				t.Errorf("ADD after the faults: %v", err)
			}
		})
	}
}

// Reload: after somebody flushed the firewall or deleted the interface, reload makes
// it again.
func (m Made) Reload(t *testing.T) {
	nstest.Host(t)
	t.Setenv(attach.DirEnv, t.TempDir())
	s := attach.New("", cni.Decode)
	netns := nstest.Namespace(t)
	if _, err := m.add(t, s, "nftables", "a", netns, 0, steptest.None); err != nil {
		t.Fatal(err)
	}
	for _, harm := range []string{"nft flush ruleset", "ip link del " + m.Bridge, "ip address flush dev " + m.Bridge,
		"ip link del veth" + m.key("a").Hash()} {
		f := strings.Fields(harm)
		if err := nstest.Run(f[0], f[1:]...); err != nil {
			t.Fatal(err)
		}
		all, err := s.List(t.Context(), m.Network)
		if err != nil || len(all) != 1 {
			t.Fatalf("%d records, %v", len(all), err)
		}
		if attach.Check(t.Context(), all[0]) == nil {
			t.Errorf("%s: Check sees nothing", harm)
		}
		if err := attach.Reload(t.Context(), &attach.Adding{Attachment: all[0]}); err != nil {
			t.Errorf("%s: %v", harm, err)
		}
		if err := attach.Check(t.Context(), all[0]); err != nil {
			t.Errorf("%s: after reload: %v", harm, err)
		}
	}
}

// NextAddRestores: the next ADD after somebody flushed the firewall puts everybody's
// rules back; so does one that finds the table of another version.
func (m Made) NextAddRestores(t *testing.T) {
	for _, harm := range []string{"nft flush ruleset", "nft delete table inet berth ; add table inet berth ; add set inet berth bridges { type ifname; }"} {
		nstest.Host(t)
		t.Setenv(attach.DirEnv, t.TempDir())
		s := attach.New("", cni.Decode)
		if _, err := m.add(t, s, "nftables", "a", nstest.Namespace(t), 0, steptest.None); err != nil {
			t.Fatal(err)
		}
		if err := nstest.Run("nft", strings.TrimPrefix(harm, "nft ")); err != nil {
			t.Fatal(err)
		}
		if _, err := m.add(t, s, "nftables", "bb", nstest.Namespace(t), 0, steptest.None); err != nil {
			t.Fatalf("%s: %v", harm, err)
		}
		all, err := s.List(t.Context(), m.Network)
		if err != nil || len(all) != 2 {
			t.Fatalf("%d records, %v", len(all), err)
		}
		for _, a := range all {
			if err := attach.Check(t.Context(), a); err != nil {
				t.Errorf("%s: %v", harm, err)
			}
		}
	}
}

// Nth is the n-th address of a subnet.
func Nth(subnet netip.Prefix, n byte) netip.Addr {
	a := subnet.Addr().AsSlice()
	a[len(a)-1] += n
	addr, _ := netip.AddrFromSlice(a)
	return addr
}
