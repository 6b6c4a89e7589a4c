// Package hosttest gives tests a host with containers: interfaces, rules and records of
// the running kernel, in namespaces that the test makes.
package hosttest

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/firewall/publish"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/nstest"
)

// Noon is what tests take for now.
var Noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Host is a host with containers, in namespaces of the test.
type Host struct {
	*testing.T
	Dir     string // of the records
	Store   *attach.Store
	Backend string        // of the firewall
	First   []attach.Step // that each container has before the others
	More    []attach.Step // that each container has besides
}

// New makes a host with a way out, and two containers on one network.
func New(t *testing.T) *Host {
	t.Helper()
	nstest.Host(t)
	h := Empty(t)
	h.Sh("ip link add wire mtu 1500 type veth peer name far && ip link set wire up && ip link set far up && ip address add 192.0.2.1/24 dev wire && ip route add default via 192.0.2.2")
	h.Container(1, false)
	h.Container(2, false)
	return h
}

// Empty makes nothing: it is the namespace that the test is in.
func Empty(t *testing.T) *Host {
	t.Helper()
	backend, err := firewall.Choose("auto")
	if err != nil {
		t.Fatal(err)
	}
	h := &Host{T: t, Dir: t.TempDir(), Backend: backend}
	t.Setenv(attach.DirEnv, h.Dir)
	t.Setenv("BERTH_DATA_DIR", t.TempDir())
	t.Setenv("NETCONFPATH", t.TempDir())
	h.Store = attach.New("", cni.Decode)
	return h
}

// Ended waits until the kernel has ended the namespace of an attachment with a veth pair,
// a moment after its last path: the host's end goes with it.
func (h *Host) Ended(a *attach.Attachment) {
	h.Helper()
	for range 500 {
		there, err := link.Exists(a.HostIfName())
		if err != nil {
			h.Fatal(err)
		}
		if !there {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	h.Fatalf("%s is still there after 10 s", a.HostIfName())
}

// Sh runs a command of the shell, and returns what it writes.
func (h *Host) Sh(command string) string {
	h.Helper()
	out, err := nstest.Output("sh", "-c", command)
	if err != nil {
		h.Fatal(err)
	}
	return out
}

// Container adds container number n to network web, with port 8000+n published.
func (h *Host) Container(n int, named bool) *attach.Attachment {
	h.Helper()
	ns, err := netns.Open(nstest.Namespace(h))
	if err != nil {
		h.Fatal(err)
	}
	defer ns.Close()
	cookie, err := ns.Cookie()
	if err != nil {
		h.Fatal(err)
	}
	gw4, gw6 := netip.MustParseAddr("10.81.0.1"), netip.MustParseAddr("fd00:81::1")
	a := &attach.Attachment{
		Key: attach.Key{Network: "web", Container: fmt.Sprintf("c%d", n), IfName: "eth0"}, Plugin: "bridge",
		Netns: ns.Path(), Cookie: cookie, Created: Noon.Add(-time.Hour),
		Addresses: []attach.Address{
			{Prefix: netip.MustParsePrefix(fmt.Sprintf("10.81.0.%d/24", n+1)), Gateway: gw4},
			{Prefix: netip.MustParsePrefix(fmt.Sprintf("fd00:81::%d/64", n+1)), Gateway: gw6}},
		Routes: []attach.Route{link.DefaultRoute(gw4), link.DefaultRoute(gw6)},
	}
	a.MAC = link.MAC(a)
	rules := &firewall.Rules{Backend: h.Backend, Bridge: "br-web", Masquerade: true, Isolate: true, Names: named}
	a.Steps = []attach.Step{
		&attach.Network{Name: "web", Plugin: "bridge", Link: "br-web", Settings: []string{"isolate"},
			Subnets: []netip.Prefix{netip.MustParsePrefix("10.81.0.0/24"), netip.MustParsePrefix("fd00:81::/64")}},
		&publish.Ports{Ports: []attach.Port{{HostPort: uint16(8000 + n), ContainerPort: 80, Protocol: "tcp"}}},
		&link.Forwarding{Gateway: true}, &link.Bridge{Name: "br-web", Gateway: true}, &link.Veth{Bridge: "br-web"}, rules}
	a.Steps = slices.Concat(h.First, a.Steps, h.More)
	if named {
		a.Steps = append(a.Steps, &names.Register{Bridge: "br-web", Names: []string{fmt.Sprintf("web%d", n)}})
	}
	err = h.Store.Update(h.Context(), func(tx *attach.Tx) error {
		for _, addr := range a.Addresses {
			a.Leases = append(a.Leases, addr.Prefix.Addr())
			if err := tx.Lease(addr.Prefix.Addr(), a.Key); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = h.Store.Add(h.Context(), &attach.Adding{Attachment: a})
	}
	if err != nil {
		h.Fatal(err)
	}
	return a
}
