package doctor

import (
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/host/hosttest"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/nstest"
)

// BenchmarkDoctor is a look at a healthy host with 1,000 containers.
func BenchmarkDoctor(b *testing.B) {
	nstest.Host(b)
	b.Setenv(attach.DirEnv, b.TempDir())
	b.Setenv("BERTH_DATA_DIR", b.TempDir())
	s := attach.New("", cni.Decode)
	rules := &firewall.Rules{Backend: firewall.NFTables, Bridge: "br-web", Masquerade: true}
	for i := range 1000 {
		ns := nstest.Namespace(b)
		n, err := netns.Open(ns)
		if err != nil {
			b.Fatal(err)
		}
		cookie, _ := n.Cookie()
		n.Close()
		gw := netip.MustParseAddr("10.81.0.1")
		addr := netip.AddrFrom4([4]byte{10, 81, byte((i + 2) >> 8), byte(i + 2)})
		a := &attach.Attachment{Key: attach.Key{Network: "web", Container: fmt.Sprintf("c%d", i), IfName: "eth0"}, Plugin: "bridge",
			Netns: ns, Cookie: cookie, Created: hosttest.Noon, Addresses: []attach.Address{{Prefix: netip.PrefixFrom(addr, 16), Gateway: gw}},
			Routes: []attach.Route{link.DefaultRoute(gw)}, Leases: []netip.Addr{addr},
			Ports: []attach.Port{{HostPort: uint16(10000 + i), ContainerPort: 80, Protocol: "tcp"}}}
		a.MAC = link.MAC(a)
		a.Steps = []attach.Step{&attach.Network{Name: "web", Plugin: "bridge", Link: "br-web"},
			&link.Forwarding{Gateway: true}, &link.Bridge{Name: "br-web", Gateway: true}, &link.Veth{Bridge: "br-web"}, rules}
		err = s.Update(b.Context(), func(tx *attach.Tx) error { return tx.Lease(addr, a.Key) })
		if err == nil {
			err = s.Add(b.Context(), &attach.Adding{Attachment: a})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	c := Config{Records: s, DataDir: os.Getenv("BERTH_DATA_DIR"), Listen: "127.0.0.1:1", Now: func() time.Time { return hosttest.Noon }}
	for b.Loop() {
		if r := Diagnose(b.Context(), c, false); code(r) != allWell {
			b.Fatalf("%+v", r)
		}
	}
}
