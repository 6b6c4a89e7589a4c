package rebuild

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/firewall/allow"
	"github.com/berth-cni/berth/pkg/host/hosttest"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/overlay"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func config(h *hosttest.Host) Config {
	return Config{Store: h.Store, ConfDir: conflist.Dir(os.Getenv(conflist.Env)), DataDir: os.Getenv(overlay.DataDirEnv), Now: func() time.Time { return hosttest.Noon }}
}

// TestOverlay: what is of an overlay network follows from what the host knows of it; the
// key from the namespace's name.
func TestOverlay(t *testing.T) {
	nstest.Host(t)
	h := hosttest.Empty(t)
	h.Sh("ip link add wire mtu 1500 type veth peer name far && ip link set wire up && ip link set far up && ip address add 192.0.2.1/24 dev wire && ip route add default via 192.0.2.2")
	block := netip.MustParsePrefix("10.42.3.0/24")
	local := &overlay.Local{Network: overlay.Network{Name: "blue", VNI: 4097, Subnets: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16")}}, Node: "a", MTU: 1450, Blocks: []netip.Prefix{block}}
	if err := local.Write(os.Getenv(overlay.DataDirEnv)); err != nil {
		t.Fatal(err)
	}
	n := &local.Network
	ns, err := netns.Open(nstest.Namespace(t))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	gw := netip.MustParseAddr("10.42.3.1")
	a := &attach.Attachment{Key: attach.Key{Network: "blue", Container: filepath.Base(ns.Path()), IfName: "eth0"}, Plugin: conflist.Overlay, Netns: ns.Path(),
		Addresses: []attach.Address{{Prefix: netip.MustParsePrefix("10.42.3.2/24"), Gateway: gw}}, Routes: []attach.Route{{Dst: n.Subnets[0], Gateway: gw}, link.DefaultRoute(gw)}}
	if a.Cookie, err = ns.Cookie(); err != nil {
		t.Fatal(err)
	}
	a.MAC = link.MAC(a)
	a.Steps = []attach.Step{&allow.Forward{Bridge: n.Bridge()}, &link.Forwarding{Gateway: true},
		&link.Bridge{Name: n.Bridge(), MTU: 1450, FollowMTU: true, Gateway: true, MoreAddresses: true}, &link.Veth{Bridge: n.Bridge(), MTU: 1450},
		&firewall.Rules{Backend: firewall.NFTables, Bridge: n.Bridge(), Overlay: n.Device(), Masquerade: true}}
	if err := h.Store.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	want := steps(t, a)
	if err := os.Truncate(filepath.Join(h.Dir, "berth.db"), 0); err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), config(h))
	if err != nil || r.Kernel != 1 || len(r.Unknown) > 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	got, err := h.Store.Get(t.Context(), a.Key)
	if err != nil {
		t.Fatal(err)
	}
	if has := steps(t, got); has != want || got.Plugin != a.Plugin || !slices.Equal(got.Leases, []netip.Addr{a.Addresses[0].Prefix.Addr()}) {
		t.Errorf("%s\nwant %s", has, want)
	}
	if err := attach.Check(t.Context(), got); err != nil {
		t.Error(err)
	}
}

func steps(t *testing.T, a *attach.Attachment) string {
	t.Helper()
	var all []string
	for _, s := range a.Steps {
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s.Kind()+" "+string(text))
	}
	return strings.Join(all, "\n")
}

// TestUnknown: of containers whose keys nobody has, whatever goes on is kept from others,
// and who deletes the right key deletes all.
func TestUnknown(t *testing.T) {
	for _, backend := range []string{firewall.NFTables, firewall.IPTables} {
		t.Run(backend, func(t *testing.T) {
			nstest.Host(t)
			h := hosttest.Empty(t)
			h.Backend = backend
			h.Sh("ip link add wire mtu 1500 type veth peer name far && ip link set wire up && ip link set far up && ip address add 192.0.2.1/24 dev wire && ip route add default via 192.0.2.2")
			a := h.Container(1, false)
			if err := os.Remove(filepath.Join(h.Dir, "berth.db")); err != nil {
				t.Fatal(err)
			}
			conf := `{"cniVersion": "1.0.0", "name": "web", "plugins": [{"type": "bridge", "bridge": "br-web", "isGateway": true, "ipam": {"subnet": "10.81.0.0/24"}}]}`
			if err := os.WriteFile(filepath.Join(os.Getenv(conflist.Env), "web.conflist"), []byte(conf), 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := Run(t.Context(), config(h))
			if err != nil || len(r.Unknown) != 1 {
				t.Fatalf("%+v, %v", r, err)
			}
			if lines := strings.Join(r.Lines(), "\n"); !strings.Contains(lines, a.HostIfName()) || !strings.Contains(lines, "network web") {
				t.Error(lines)
			}
			err = h.Store.Update(t.Context(), func(tx *attach.Tx) error {
				late := attach.Key{Network: "web", Container: "late", IfName: "eth0"}
				var held *attach.HeldError
				if err := tx.Lease(a.Addresses[0].Prefix.Addr(), late); !errors.As(err, &held) {
					t.Errorf("its address: %v", err)
				}
				if err := tx.ClaimPort(a.Ports[0], late); !errors.As(err, &held) {
					t.Errorf("its port: %v", err)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			again, err := Run(t.Context(), config(h)) // finds nothing to do
			if err != nil || again.File != 1 || again.Kernel != 0 || again.Kept != "" {
				t.Errorf("%+v, %v", again, err)
			}
			if err := h.Store.Del(t.Context(), a.Key); err != nil {
				t.Fatal(err)
			}
			for _, what := range []string{h.Sh("ip link"), h.Sh("nft list ruleset"), h.Sh("iptables-save; ip6tables-save")} {
				if strings.Contains(what, a.Hash()) {
					t.Errorf("left: %s", what)
				}
			}
			if all, err := h.Store.List(t.Context(), ""); err != nil || len(all) > 0 {
				t.Errorf("%v, %v", all, err)
			}
		})
	}
}

// mystery is a step of a later version.
type mystery struct{ *link.Forwarding }

func (mystery) Kind() string { return "mystery" }

// TestUnreadable: a record of a later version is made again from the kernel, under its
// key; one of which the kernel has nothing goes, and it is said.
func TestUnreadable(t *testing.T) {
	h := hosttest.New(t)
	a, err := h.Store.Get(t.Context(), attach.Key{Network: "web", Container: "c1", IfName: "eth0"})
	if err != nil {
		t.Fatal(err)
	}
	later := *a
	later.Steps = append(slices.Clone(a.Steps), mystery{&link.Forwarding{}})
	nothing := &attach.Attachment{Key: attach.Key{Network: "web", Container: "nothing", IfName: "eth0"}, Steps: []attach.Step{mystery{&link.Forwarding{}}}}
	if _, err := h.Store.Rebuild(t.Context(), func(*attach.Salvage) (*attach.Rebuilt, error) {
		return &attach.Rebuilt{Records: []*attach.Attachment{&later}}, nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := h.Store.Add(t.Context(), &attach.Adding{Attachment: nothing}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Store.List(t.Context(), ""); !errors.Is(err, attach.ErrUnreadable) {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), config(h))
	if err != nil || r.File != 1 || r.Kernel != 1 || r.Kept == "" || len(r.Dropped) != 1 || len(r.Unknown) > 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	all, err := h.Store.List(t.Context(), "")
	if err != nil || len(all) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
	for _, a := range all {
		if err := attach.Check(t.Context(), a); err != nil {
			t.Error(err)
		}
	}
	if !strings.Contains(strings.Join(r.Lines(), "\n"), "container nothing") {
		t.Error(r.Lines())
	}
}
