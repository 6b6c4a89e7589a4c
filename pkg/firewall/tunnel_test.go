package firewall

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
)

func tunnel(vni int, peers ...string) Tunnel {
	t := Tunnel{Device: fmt.Sprint("vxlan", vni), Bridge: fmt.Sprint("overlay", vni), Port: 4789, VNI: vni}
	for _, p := range peers {
		t.Peers = append(t.Peers, vtep(p, fmt.Sprintf("10.%d.%d.0/24", vni, len(t.Peers)), fmt.Sprintf("fd00:%d:0:%d::/64", vni, len(t.Peers))))
	}
	return t
}

func vtep(address string, blocks ...string) VTEP {
	v := VTEP{Address: netip.MustParseAddr(address)}
	for _, b := range blocks {
		v.Blocks = append(v.Blocks, netip.MustParsePrefix(b))
	}
	return v
}

// member is one container of the tunnel's network.
func member(backend string, vni, number int) *attach.Attachment {
	t := tunnel(vni)
	r := &Rules{Backend: backend, Bridge: t.Bridge, Overlay: t.Device, Masquerade: true, Internal: true, Isolate: true, NoICC: true}
	a := attachment(fmt.Sprint("c", number), []string{fmt.Sprintf("10.42.0.%d/24", number), fmt.Sprintf("fd00:42::%d/64", number)})
	a.Network, a.Created = r.Bridge, time.Unix(int64(number), 0)
	a.Steps = []attach.Step{r}
	return a
}

func recordsOf(all *[]*attach.Attachment) records {
	return func(context.Context) ([]*attach.Attachment, error) { return *all, nil }
}

// TestSyncTunnels goes from each wanted state to each other one: what is there
// depends on the last alone.
func TestSyncTunnels(t *testing.T) {
	one, two, six := tunnel(42, "192.0.2.1", "192.0.2.2"), tunnel(43, "192.0.2.1"), tunnel(44, "2001:db8::1", "::ffff:192.0.2.9")
	all := one
	all.Internal, all.Isolate, all.NoICC = true, true, true
	more := one
	more.Peers = append(slices.Clone(one.Peers), vtep("192.0.2.3", "10.42.7.0/24"), vtep("2001:db8::3", "10.42.8.0/24", "10.42.8.128/25", "fd00:42:0:8::/64"), vtep("192.0.2.3", "10.42.7.0/25", "10.42.9.0/24"))
	moved := one
	moved.Port, moved.VNI = 8472, 1<<24-1
	states := [][]Tunnel{nil, {one}, {all}, {more, two}, {two, one, six}, {moved}, {one}, nil}
	for _, backend := range []string{NFTables, IPTables} {
		t.Run(backend, func(t *testing.T) {
			states := states
			if backend == IPTables { // which forks for each rule
				states = [][]Tunnel{nil, {all}, {one, two}, nil}
			}
			want := make([]string, len(states))
			for i := range states {
				nstest.Host(t)
				want[i] = synced(t, backend, states[i])
			}
			nstest.Host(t)
			for i := range states {
				for _, j := range []int{i, len(states) - 1 - i, i} {
					if backend == IPTables && j != i {
						continue
					}
					if got := synced(t, backend, states[j]); got != want[j] {
						t.Fatalf("state %d:\n%s\nwant\n%s", j, got, want[j])
					}
				}
			}
		})
	}
}

// synced is what is there of tunnels, in no order.
func synced(t *testing.T, backend string, tunnels []Tunnel) string {
	t.Helper()
	if err := SyncTunnels(t.Context(), backend, tunnels, nil); err != nil {
		t.Fatal(err)
	}
	s, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, set := range append(slices.Clone(guards), tunnelPorts, inside, overlay, ways, same, noICC, internal, isolated) {
		there, err := s.List(set)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range there {
			all = append(all, fmt.Sprintf("%s %q", set, e.Key))
		}
	}
	if backend == IPTables {
		for line := range strings.Lines(linesWith(t, "vxlan")) {
			if strings.HasPrefix(line, "-A") {
				all = append(all, line)
			}
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// TestTunnelOwners: what agent and containers both ask for stays while one of
// them does.
func TestTunnelOwners(t *testing.T) {
	for _, backend := range []string{NFTables, IPTables} {
		t.Run(backend, func(t *testing.T) {
			nstest.Host(t)
			var all []*attach.Attachment
			list := recordsOf(&all)
			a := member(backend, 42, 2)
			r := RulesOf(a)
			mine := tunnel(42, "192.0.2.1")
			mine.Internal, mine.Isolate, mine.NoICC = true, true, true
			empty := synced(t, backend, nil)
			alone := synced(t, backend, []Tunnel{mine})
			all = append(all, a)
			if err := r.Add(t.Context(), &attach.Adding{Attachment: a, All: list}); err != nil {
				t.Fatal(err)
			}
			sync := func(tunnels ...Tunnel) {
				t.Helper()
				if err := SyncTunnels(t.Context(), backend, tunnels, list); err != nil {
					t.Fatal(err)
				}
			}
			for _, tunnels := range [][]Tunnel{{mine}, {tunnel(42)}, {}, {tunnel(43)}} {
				sync(tunnels...)
				if err := r.Check(t.Context(), a); err != nil {
					t.Errorf("the agent took from the container: %v", err)
				}
			}
			sync(mine)
			other := *r
			other.Internal, other.Isolate, other.NoICC, other.Own = false, false, false, true
			if err := other.Add(t.Context(), &attach.Adding{Attachment: a, All: list, NetworkChanged: true}); err != nil {
				t.Fatal(err)
			}
			if err := other.Del(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			if err := RemoveNetwork(t.Context(), backend, r.Bridge); err != nil {
				t.Fatal(err)
			}
			all = nil
			if got := synced(t, backend, []Tunnel{mine}); got != alone {
				t.Errorf("the container took from the agent: left\n%s\nwant\n%s", got, alone)
			}
			if got := synced(t, backend, nil); got != empty {
				t.Errorf("left at the end:\n%s", got)
			}
		})
	}
}

// TestTunnelRestore has others damage the table: an Add brings back what the
// records know, the agent's next turn the rest, in either order.
func TestTunnelRestore(t *testing.T) {
	for _, damage := range []string{
		"nft flush ruleset", "nft flush table inet berth", "nft flush chain inet berth input", "nft flush set inet berth overlay",
		"nft delete chain inet berth input", "nft rename chain inet berth " + publish + " publish_1", "nft flush set inet berth vteps4",
	} {
		for _, agentFirst := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/agentFirst=%v", damage, agentFirst), func(t *testing.T) {
				nstest.Host(t)
				var all []*attach.Attachment
				list := recordsOf(&all)
				mine := []Tunnel{tunnel(42, "192.0.2.1", "2001:db8::1"), tunnel(43, "192.0.2.1")}
				mine[0].Internal, mine[0].Isolate, mine[0].NoICC = true, true, true
				sync := func() {
					t.Helper()
					if err := SyncTunnels(t.Context(), NFTables, mine, list); err != nil {
						t.Fatal(err)
					}
				}
				add := func(number int) {
					t.Helper()
					a := member(NFTables, 42, number)
					all = append(all, a)
					if err := RulesOf(a).Add(t.Context(), &attach.Adding{Attachment: a, All: list}); err != nil {
						t.Fatal(err)
					}
				}
				sync()
				add(2)
				want := synced(t, NFTables, mine)
				run(t, damage)
				if agentFirst {
					sync()
					add(3)
				} else {
					add(3)
					sync()
				}
				if got := synced(t, NFTables, mine); got != want {
					t.Errorf("after damage:\n%s\nwant\n%s", got, want)
				}
				for _, a := range all {
					if err := RulesOf(a).Check(t.Context(), a); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

// TestSyncTunnelsUnlisted: who cannot say what containers need makes no table
// without it, and takes nothing away.
func TestSyncTunnelsUnlisted(t *testing.T) {
	for _, backend := range []string{NFTables, IPTables} {
		nstest.Host(t)
		mine := []Tunnel{tunnel(42, "192.0.2.1")}
		fault := errors.New("fault")
		unlisted := func(context.Context) ([]*attach.Attachment, error) { return nil, fault }
		if err := SyncTunnels(t.Context(), NFTables, mine, unlisted); !errors.Is(err, fault) {
			t.Errorf("%s: error %v, want %v", backend, err, fault)
		}
		if left := run(t, "nft list ruleset"); left != "" {
			t.Errorf("%s: made\n%s", backend, left)
		}
		synced(t, backend, mine)
		if err := SyncTunnels(t.Context(), backend, nil, unlisted); !errors.Is(err, fault) {
			t.Errorf("%s: error %v, want %v", backend, err, fault)
		}
		if left := linesWith(t, "vxlan42"); !strings.Contains(left, "overlay42") && backend == NFTables {
			t.Errorf("%s: left\n%s", backend, left)
		}
	}
}

// TestPeerWithoutTable: whoever adds a peer hears that the table is gone.
func TestPeerWithoutTable(t *testing.T) {
	nstest.Host(t)
	peer := vtep("192.0.2.1", "10.42.0.0/24")
	if err := AddPeer(4789, 42, peer); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want %v", err, fs.ErrNotExist)
	}
	if err := RemovePeer(4789, 42, peer, nil); err != nil {
		t.Error(err)
	}
}

// manyPeers are the tunnels of several networks with 5,000 peers each.
func manyPeers() (all []Tunnel) {
	for vni := range 4 {
		t := tunnel(100 + vni)
		for i := range 5000 {
			block := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 + vni), byte(i >> 8), byte(i)}), 24)
			t.Peers = append(t.Peers, VTEP{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), []netip.Prefix{block}})
		}
		all = append(all, t)
	}
	return all
}

// TestManyPeers is about correctness and the order of magnitude.
func TestManyPeers(t *testing.T) {
	nstest.Host(t)
	all := manyPeers()
	records := recordsOf(new([]*attach.Attachment))
	for _, c := range []struct {
		what    string
		tunnels []Tunnel
	}{{"add all", all}, {"nothing to do", all}, {"remove three networks", all[:1]}, {"remove all", nil}} {
		start := time.Now()
		if err := SyncTunnels(t.Context(), NFTables, c.tunnels, records); err != nil {
			t.Fatal(err)
		}
		took := time.Since(start)
		t.Logf("%s: %s", c.what, took)
		if took > 10*time.Second {
			t.Errorf("%s took %s", c.what, took)
		}
		s, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		keys, err := s.List(vteps4)
		if want := 5000 * len(c.tunnels); err != nil || len(keys) != want {
			t.Errorf("%s: %d elements, want %d, %v", c.what, len(keys), want, err)
		}
	}
}

func BenchmarkSyncTunnels(b *testing.B) {
	nstest.Host(b)
	all := manyPeers()
	for b.Loop() {
		if err := SyncTunnels(b.Context(), NFTables, all, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAddPeer(b *testing.B) {
	nstest.Host(b)
	if err := SyncTunnels(b.Context(), NFTables, manyPeers(), nil); err != nil {
		b.Fatal(err)
	}
	peer := vtep("192.0.2.1", "10.42.0.0/24")
	for b.Loop() {
		if err := errors.Join(AddPeer(4789, 100, peer), RemovePeer(4789, 100, peer, nil)); err != nil {
			b.Fatal(err)
		}
		peer.Address = peer.Address.Next()
	}
}
