package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/doctor"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/overlay"
)

// ward is a host with containers, for the doctor.
type ward struct {
	*testing.T
	dir     string
	store   *attach.Store
	backend string // of the firewall
}

// newWard makes a host with a way out, and two containers on one network.
func newWard(t *testing.T) *ward {
	t.Helper()
	nstest.Host(t)
	w := emptyWard(t)
	w.sh("ip link add wire mtu 1500 type veth peer name far && ip link set wire up && ip link set far up && ip address add 192.0.2.1/24 dev wire && ip route add default via 192.0.2.2")
	w.container(1, false)
	w.container(2, false)
	return w
}

func emptyWard(t *testing.T) *ward {
	t.Helper()
	w := &ward{T: t, dir: t.TempDir(), backend: firewall.NFTables}
	t.Setenv(attach.DirEnv, w.dir)
	t.Setenv("BERTH_DATA_DIR", t.TempDir())
	t.Setenv("NETCONFPATH", t.TempDir())
	w.store = attach.New("", cni.Decode)
	return w
}

func (w *ward) sh(command string) string {
	w.Helper()
	out, err := nstest.Output("sh", "-c", command)
	if err != nil {
		w.Fatal(err)
	}
	return out
}

// container adds container number n to network web, with port 8000+n published.
func (w *ward) container(n int, named bool) *attach.Attachment {
	w.Helper()
	ns, err := link.OpenNetns(nstest.Namespace(w))
	if err != nil {
		w.Fatal(err)
	}
	defer ns.Close()
	cookie, err := ns.Cookie()
	if err != nil {
		w.Fatal(err)
	}
	gw4, gw6 := netip.MustParseAddr("10.81.0.1"), netip.MustParseAddr("fd00:81::1")
	a := &attach.Attachment{
		Key: attach.Key{Network: "web", Container: fmt.Sprintf("c%d", n), IfName: "eth0"}, Plugin: "bridge",
		Netns: ns.Path(), Cookie: cookie, Created: noon.Add(-time.Hour),
		Addresses: []attach.Address{
			{Prefix: netip.MustParsePrefix(fmt.Sprintf("10.81.0.%d/24", n+1)), Gateway: gw4},
			{Prefix: netip.MustParsePrefix(fmt.Sprintf("fd00:81::%d/64", n+1)), Gateway: gw6}},
		Routes: []attach.Route{link.DefaultRoute(gw4), link.DefaultRoute(gw6)},
	}
	a.MAC = link.MAC(a)
	rules := &firewall.Rules{Backend: w.backend, Bridge: "br-web", Masquerade: true, Isolate: true, Names: named}
	a.Steps = []attach.Step{
		&attach.Network{Name: "web", Plugin: "bridge", Link: "br-web", Settings: []string{"isolate"},
			Subnets: []netip.Prefix{netip.MustParsePrefix("10.81.0.0/24"), netip.MustParsePrefix("fd00:81::/64")}},
		&firewall.Ports{Ports: []attach.Port{{HostPort: uint16(8000 + n), ContainerPort: 80, Protocol: "tcp"}}},
		&link.Forwarding{Gateway: true}, &link.Bridge{Name: "br-web", Gateway: true}, &link.Veth{Bridge: "br-web"}, rules}
	if named {
		a.Steps = append(a.Steps, &names.Register{Bridge: "br-web", Names: []string{fmt.Sprintf("web%d", n)}})
	}
	err = w.store.Update(w.Context(), func(tx *attach.Tx) error {
		for _, addr := range a.Addresses {
			a.Leases = append(a.Leases, addr.Prefix.Addr())
			if err := tx.Lease(addr.Prefix.Addr(), a.Key); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = w.store.Add(w.Context(), &attach.Adding{Attachment: a})
	}
	if err != nil {
		w.Fatal(err)
	}
	return a
}

// berth runs the program on the host.
func (w *ward) berth(args ...string) (code int, out string) {
	w.Helper()
	config := filepath.Join(w.dir, "empty.yaml")
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		w.Fatal(err)
	}
	var b bytes.Buffer
	p := &program{in: strings.NewReader(""), out: &b, err: &b, now: func() time.Time { return noon },
		open: func(*settings, *slog.Logger) (overlay.Store, error) { return nil, errors.New("this test has no store") }}
	code = run(w.Context(), p, append(args, "--config", config)...)
	return code, b.String()
}

// doctor returns what is wrong, by check.
func (w *ward) doctor(args ...string) (code int, bad map[string]string) {
	w.Helper()
	code, out := w.berth(append([]string{"doctor", "--format", "json", "--listen", "127.0.0.1:1"}, args...)...)
	var r doctor.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		w.Fatalf("%v\n%s", err, out)
	}
	bad = map[string]string{}
	for _, c := range r.Checks {
		for _, p := range c.Problems {
			bad[c.Check] += p.What + "\n"
			if p.Why == "" || p.Mend == "" {
				w.Errorf("%s: no why, or no mend: %+v", c.Check, p)
			}
		}
		if c.Error != "" {
			bad[c.Check] += c.Error + "\n"
		}
	}
	return code, bad
}

func TestDoctorHealthyHost(t *testing.T) {
	w := newWard(t)
	if code, bad := w.doctor(); code != exitDone || len(bad) > 0 {
		t.Errorf("%d, %q", code, bad)
	}
	if code, out := w.berth("reload"); code != exitDone || out != "" {
		t.Errorf("reload: %d, %s", code, out)
	}
	if code, out := w.berth("gc"); code != exitDone || out != "" {
		t.Errorf("gc: %d, %s", code, out)
	}
}

const (
	inFaults    = "containers have what their records say"
	inRecords   = "records have a container"
	inStrangers = "nothing is left without a record"
	inFirewalls = "other firewalls let containers through"
	inOverlaps  = "subnets are nobody else's"
	inMTU       = "the MTU fits the way out"
	inNames     = "names are answered"
)

// TestDoctorNames breaks one thing each: the doctor names it, and mends it where that is
// safe.
func TestDoctorNames(t *testing.T) {
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
		{"touch /run/netns/lost && mount --bind /proc/self/ns/net /run/netns/lost", inStrangers, "/run/netns/lost leads to this host's own namespace", false},
	} {
		t.Run(c.damage, func(t *testing.T) {
			w := newWard(t)
			w.sh(c.damage)
			t.Cleanup(func() { _ = nstest.Run("sh", "-c", "umount /run/netns/lost && rm /run/netns/lost") })
			code, bad := w.doctor()
			if code != exitFailed || !strings.Contains(bad[c.check], c.want) {
				t.Fatalf("%d, want %q in %q", code, c.want, bad)
			}
			want := exitFailed
			if c.mended {
				want = exitDone
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

// TestDoctorJSON is what programs read.
func TestDoctorJSON(t *testing.T) {
	w := newWard(t)
	w.sh("ip route add 10.81.0.128/25 dev wire && echo 0 > /proc/sys/net/ipv4/ip_forward")
	code, out := w.berth("doctor", "--format", "json", "--listen", "127.0.0.1:1", "--data-dir", "/nowhere", "--fix")
	if code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	golden(t, "doctor.json", out)
}

// TestDoctorBridgeNF has bridged frames pass a firewall that drops.
func TestDoctorBridgeNF(t *testing.T) {
	w := newWard(t)
	if _, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables"); err != nil {
		t.Skip("the kernel has no br_netfilter")
	}
	w.sh("echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables")
	if code, bad := w.doctor(); code != exitDone {
		t.Errorf("%d, %q", code, bad)
	}
	w.sh("iptables -P FORWARD DROP")
	const check = "bridged frames are not dropped"
	if _, bad := w.doctor(); !strings.Contains(bad[check], "drops those of bridge br-web") {
		t.Errorf("%q", bad)
	}
	if code, bad := w.doctor("--fix"); code != exitDone {
		t.Errorf("%d, %q", code, bad)
	}
}

func TestDoctorDeadRecords(t *testing.T) {
	for name, damage := range map[string]string{"gone": "ip netns del %[1]s", "another": "ip netns del %[1]s && ip netns add %[1]s",
		"plain file": "ip netns del %[1]s && touch /run/netns/%[1]s"} {
		t.Run(name, func(t *testing.T) {
			w := newWard(t)
			a := w.container(3, false)
			w.sh(fmt.Sprintf(damage, filepath.Base(a.Netns)))
			t.Cleanup(func() { _ = os.Remove(a.Netns) })
			code, bad := w.doctor()
			for range 50 { // the kernel ends the namespace
				if code == exitFailed && strings.Contains(bad[inRecords], "1 of 3 records have no container") {
					break
				}
				time.Sleep(100 * time.Millisecond)
				code, bad = w.doctor()
			}
			if code != exitFailed || !strings.Contains(bad[inRecords], "1 of 3 records have no container: container c3") {
				t.Fatalf("%d, %q", code, bad)
			}
			if code, out := w.berth("gc", "--dry-run"); code != exitDone || !strings.HasPrefix(out, "would remove container c3 (network web, eth0): ") {
				t.Errorf("%d, %s", code, out)
			}
			if _, err := w.store.Get(t.Context(), a.Key); err != nil {
				t.Errorf("--dry-run: %v", err)
			}
			if code, bad := w.doctor("--fix"); code != exitDone || len(bad) > 0 {
				t.Errorf("%d, %q", code, bad)
			}
			all, err := w.store.List(t.Context(), "")
			if err != nil || len(all) != 2 {
				t.Errorf("%d records, want those that are alive: %v", len(all), err)
			}
			if left := w.sh("nft list table inet berth"); strings.Contains(left, a.Hash()) {
				t.Errorf("left:\n%s", left)
			}
			w.container(3, false) // its address and port are free
		})
	}
}

func TestDoctorLostLease(t *testing.T) {
	w := newWard(t)
	lost := attach.Key{Network: "web", Container: "lost", IfName: "eth0"}
	all := []string{"10.81.0.77", "10.81.0.254", "fd00:81::77"}
	err := w.store.Update(t.Context(), func(tx *attach.Tx) error {
		var errs []error
		for _, s := range all {
			errs = append(errs, tx.Lease(netip.MustParseAddr(s), lost))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, bad := w.doctor(); !strings.Contains(bad[inStrangers], "leases without a record: 10.81.0.254 on web, 10.81.0.77 on web, fd00:81::77 on web") {
		t.Errorf("%q", bad)
	}
	if code, out := w.berth("gc", "other"); code != exitDone || out != "" {
		t.Errorf("another network: %d, %s", code, out)
	}
	if code, bad := w.doctor("--fix"); code != exitDone {
		t.Errorf("%d, %q", code, bad)
	}
	err = w.store.View(t.Context(), func(tx *attach.Tx) error {
		for _, s := range all {
			if holder, held := tx.Holder("web", netip.MustParseAddr(s)); held {
				t.Errorf("%s is held by %s", s, holder)
			}
		}
		if n := tx.Leased("web", netip.MustParsePrefix("10.81.0.0/24")); n != 2 {
			t.Errorf("%d leases, want those of the two containers", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDoctorOverlappingNetworks(t *testing.T) {
	w := newWard(t)
	err := w.store.Update(t.Context(), func(tx *attach.Tx) error {
		return tx.PutNetwork(attach.Network{Name: "old", Plugin: "bridge", Link: "br-old", Subnets: []netip.Prefix{netip.MustParsePrefix("10.81.0.64/26")}})
	})
	if err != nil {
		t.Fatal(err)
	}
	if code, bad := w.doctor(); code != exitFailed || !strings.Contains(bad[inOverlaps], "networks old and web have the same addresses") {
		t.Errorf("%d, %q", code, bad)
	}
	if code, out := w.berth("gc", "--networks"); code != exitDone || !strings.HasPrefix(out, "removed network old with bridge br-old: ") {
		t.Errorf("%d, %s", code, out)
	}
	if code, bad := w.doctor(); code != exitDone {
		t.Errorf("%d, %q", code, bad)
	}
}

// With another state folder, nothing of what lives is taken for what was left.
func TestAnotherStateFolder(t *testing.T) {
	w := newWard(t)
	whole := func() string { return w.sh("ip -br link show type veth") + w.sh("nft -s list table inet berth") }
	before := whole()
	other := t.TempDir()
	for _, command := range [][]string{{"gc"}, {"reload"}, {"doctor", "--fix"}} {
		code, out := w.berth(append(command, "--state-dir", other)...)
		if after := whole(); after != before {
			t.Fatalf("berth %v (%d: %s) changed the host:\n%s\nbefore:\n%s", command, code, out, after, before)
		}
	}
	if code, bad := w.doctor("--state-dir", other); code != exitFailed || !strings.Contains(bad["nothing is left without a record"], "have no record") {
		t.Errorf("%d, %q", code, bad)
	}
	if code, bad := w.doctor(); code != exitDone || len(bad) > 0 {
		t.Errorf("with the right folder: %d, %q", code, bad)
	}
}
