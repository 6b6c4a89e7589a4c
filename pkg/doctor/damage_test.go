package doctor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/firewall/publish"
	"github.com/berth-cni/berth/pkg/host/hosttest"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestDamage breaks one thing each: the doctor names it, and mends it where that is
// safe.
func TestDamage(t *testing.T) {
	stray := attach.Key{Network: "web", Container: "stray"}
	for _, c := range []struct {
		damage, check, want string
		mended              bool
	}{
		{"nft flush ruleset", inFaults, "network web: the firewall of c1, c2", true},
		{"nft flush table inet berth", inFaults, "the firewall of c1, c2", true},
		{"nft delete element inet berth ports4 '{ tcp . 8001 }'", inFaults, "the firewall of c1: ", true},
		{"ip link del " + attach.Key{Network: "web", Container: "c1", IfName: "eth0"}.HostIfName(), inFaults, "the interface of c1", true},
		{"ip link del br-web", inFaults, "network web: the bridge of c2: ", true},
		{"ip link set br-web down", inFaults, "bridge br-web is down", true},
		{"ip address del 10.81.0.1/24 dev br-web", inFaults, "lacks its gateway address 10.81.0.1/24", true},
		{"echo 0 > /proc/sys/net/ipv4/ip_forward", "the host forwards packets", "does not forward IPv4", true},
		{"echo 0 > /proc/sys/net/ipv6/conf/all/forwarding", "the host forwards packets", "does not forward IPv6", true},
		{"ip route add 10.81.0.128/25 dev wire", inOverlaps, "network web: 10.81.0.0/24: overlaps 10.81.0.128/25, which this host reaches through wire", false},
		{"ip link add " + stray.HostIfName() + " type veth peer name other", inStrangers, stray.HostIfName(), true},
		{"nft add element inet berth masq4 '{ 10.99.0.9 comment \"" + stray.Hash() + "\" }'", inStrangers, stray.Hash(), true},
		{"iptables -P FORWARD DROP", inFirewalls, "is drop, and bridge br-web is not let through", true},
		{"ip6tables -P FORWARD DROP", inFirewalls, "is drop, and bridge br-web is not let through", true},
		{"nft add table inet wall && nft add chain inet wall gate '{ type filter hook forward priority 0; policy drop; }'", inFirewalls,
			"chain gate of table inet wall drops what it does not accept, and no rule there names bridge br-web", false},
		{"ip link set wire mtu 1400", inMTU, "bridge br-web has MTU 1500, and wire, the way out, 1400", true},
		// What containers share.
		{"ip link set br-web address 02:00:00:00:00:99", inFaults, "br-web", true},
		{"ip link set br-web mtu 9000", inMTU, "bridge br-web has MTU 9000", true},
		{"ip route del 10.81.0.0/24 dev br-web", inFaults, "10.81.0.0/24", true},
		{"ip address flush dev br-web", inFaults, "gateway address", true},
		{"ip -6 address del fd00:81::1/64 dev br-web", inFaults, "fd00:81::1/64", true},
		{"echo 1 > /proc/sys/net/ipv6/conf/br-web/accept_ra", inFaults, "accept_ra", true},
		{"echo 0 > /proc/sys/net/ipv4/conf/br-web/route_localnet", inFaults, "route_localnet", true},
		{"nft delete element inet berth bridges '{ br-web }'", inFaults, "the firewall of c1, c2", true},
		{"nft delete element inet berth isolated '{ br-web }'", inFaults, "the firewall of c1, c2", true},
		{"nft delete element inet berth masq4 '{ 10.81.0.2 }'", inFaults, "the firewall of c1: ", true},
		{"iptables-legacy -P FORWARD DROP", inFirewalls, "is drop, and bridge br-web is not let through", true},
		{"ip6tables-legacy -P FORWARD DROP", inFirewalls, "is drop, and bridge br-web is not let through", true},
		{"nft add table ip6 wall && nft add chain ip6 wall gate '{ type filter hook forward priority 0; policy drop; }'", inFirewalls,
			"chain gate of table ip6 wall drops", false},
		// What is one container's.
		{"ip link set $V1 nomaster", inFaults, "the interface of c1", true},
		{"ip link set $V1 down", inFaults, "the interface of c1", true},
		{"ip netns exec $N1 ip link del eth0", inFaults, "the interface of c1", true},
		// The state file.
		{": > $STATE/berth.db", inStateFile, "is damaged", true},
		{"truncate -s 5000 $STATE/berth.db", inStateFile, "is damaged", true},
		{"dd if=/dev/zero of=$STATE/berth.db bs=4096 seek=3 count=6 conv=notrunc", inStateFile, "is damaged", true},
		{"rm $STATE/berth.db", inStateFile, "have no record: there is no state file in ", true},
		// Configurations.
		{"echo '{' > \"$CONF/10-cut.conflist\"", inConflists, "10-cut.conflist: is no CNI configuration", false},
		{"for i in 1 2; do echo '{\"cniVersion\": \"1.0.0\", \"name\": \"two\", \"plugins\": [{\"type\": \"ptp\"}]}' > \"$CONF/$i.conflist\"; done", inConflists,
			"2.conflist: network two is in", false},
		{"echo '{\"cniVersion\": \"1.0.0\", \"name\": \"b\", \"berth\": {\"driver\": \"bridge\"}, \"plugins\": [{\"type\": \"bridge\"}, {\"type\": \"tuning\"}]}' > \"$CONF/b.conflist\"", inConflists,
			"network b: no plugin bridge, tuning in /nowhere", false},
		{"ip netns exec $N1 true; ip address del 192.0.2.1/24 dev wire; ip address add 192.0.2.9/24 dev wire; ip route add default via 192.0.2.2", inListeners,
			"port 192.0.2.1:8003/tcp of c3: 192.0.2.1 is not an address of this host", false},
		{"touch /run/netns/lost && mount --bind /proc/self/ns/net /run/netns/lost", inStrangers, "/run/netns/lost leads to this host's own namespace", false},
	} {
		t.Run(c.damage, func(t *testing.T) {
			w := newHost(t)
			if strings.Contains(c.want, "of c3") {
				w.publish(3, "192.0.2.1")
			}
			w.Sh(w.names() + c.damage)
			t.Cleanup(func() { _ = nstest.Run("sh", "-c", "umount /run/netns/lost && rm /run/netns/lost") })
			code, bad := w.doctor()
			if code != problems || !strings.Contains(bad[c.check], c.want) {
				t.Fatalf("%d, want %q in %q", code, c.want, bad)
			}
			want := problems
			if c.mended {
				want = allWell
			}
			if code, bad := w.doctor("--fix"); code != want {
				t.Errorf("--fix: %d, %q", code, bad)
			}
			if code, bad := w.doctor(); code != want {
				t.Errorf("after --fix: %d, %q", code, bad)
			}
		})
	}
}

// names are words for commands: the first container's namespace and its interface on
// the host, and the folder of configurations.
func (w *testHost) names() string {
	w.Helper()
	a, err := w.Store.Get(w.Context(), attach.Key{Network: "web", Container: "c1", IfName: "eth0"})
	if err != nil {
		w.Fatal(err)
	}
	return fmt.Sprintf("N1=%s; V1=%s; CONF='%s'; STATE='%s'; ", filepath.Base(a.Netns), a.HostIfName(), os.Getenv(conflist.Env), w.Dir)
}

// publish adds a container whose port is published on one address of the host.
func (w *testHost) publish(n int, address string) {
	w.Helper()
	a := w.Container(n, false)
	if err := w.Store.Del(w.Context(), a.Key); err != nil {
		w.Fatal(err)
	}
	port := attach.Port{HostIP: netip.MustParseAddr(address), HostPort: uint16(8000 + n), ContainerPort: 80, Protocol: "tcp"}
	a.Ports, a.Leases = nil, nil
	for i, s := range a.Steps {
		if _, ok := s.(*publish.Ports); ok {
			a.Steps[i] = &publish.Ports{Ports: []attach.Port{port}}
		}
	}
	if err := w.Store.Add(w.Context(), &attach.Adding{Attachment: a}); err != nil {
		w.Fatal(err)
	}
}

// TestForeignConflist is a network of another engine, whose plugins are elsewhere.
func TestForeignConflist(t *testing.T) {
	w := newHost(t)
	w.Sh(w.names() + `echo '{"cniVersion": "0.4.0", "name": "podman", "plugins": [{"type": "bridge"}, {"type": "portmap"}]}' > "$CONF/87-podman.conflist"`)
	if code, bad := w.doctor(); code != allWell {
		t.Errorf("%d, %q", code, bad)
	}
}

// TestShadowedPort has a program of the host listen on a port that is published.
func TestShadowedPort(t *testing.T) {
	w := newHost(t)
	l, err := net.Listen("tcp4", "0.0.0.0:8001")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if code, bad := w.doctor(); code != problems || len(bad) != 1 || !strings.HasPrefix(bad[inListeners], fmt.Sprintf("port 8001/tcp of c1: doctor.test (pid %d) listens on it, too\n", os.Getpid())) {
		t.Errorf("%d, %q", code, bad)
	}
	l.Close()
	if code, bad := w.doctor(); code != allWell {
		t.Errorf("it has ended: %d, %q", code, bad)
	}
}

// TestSharedWithout has a container share the namespace of one that goes.
func TestSharedWithout(t *testing.T) {
	w := newHost(t)
	owner := w.Container(3, false)
	a := &attach.Attachment{Key: attach.Key{Network: "share", Container: "guest", IfName: "eth0"}, Plugin: conflist.Share,
		Netns: owner.Netns, Cookie: owner.Cookie, Created: hosttest.Noon.Add(-time.Hour), Steps: []attach.Step{held{&netns.Rebind{Owner: owner.Key}}}}
	if err := w.Store.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	if code, bad := w.doctor(); bad[inShared] != "" {
		t.Errorf("its owner is there: %d, %q", code, bad)
	}
	if err := w.Store.Del(t.Context(), owner.Key); err != nil {
		t.Fatal(err)
	}
	if code, bad := w.doctor(); code != problems || bad[inShared] != "guest: the container whose network it shares is gone: c3\n" {
		t.Errorf("%d, %q", code, bad)
	}
}

// held is a step that was added before.
type held struct{ *netns.Rebind }

func (held) Add(context.Context, *attach.Adding) error { return nil }
