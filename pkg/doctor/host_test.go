package doctor

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/host/hosttest"
	"github.com/berth-cni/berth/pkg/link"
)

func TestHealthyHost(t *testing.T) {
	w := newHost(t)
	if code, bad := w.doctor(); code != allWell || len(bad) > 0 {
		t.Errorf("%d, %q", code, bad)
	}
	if code, out := w.reload(); code != allWell || out != "" {
		t.Errorf("reload: %d, %s", code, out)
	}
	if code, out := w.gc(host.CollectOptions{}); code != allWell || out != "" {
		t.Errorf("gc: %d, %s", code, out)
	}
}

const (
	inFaults    = "containers have what their records say"
	inStateFile = "records are whole"
	inRecords   = "records have a container"
	inStrangers = "nothing is left without a record"
	inFirewalls = "other firewalls let containers through"
	inOverlaps  = "subnets are nobody else's"
	inMTU       = "the MTU fits the way out"
	inNames     = "names are answered"
	inConflists = "configurations can be used"
	inListeners = "published ports are the containers' alone"
	inShared    = "shared networks are there"
)

// TestBridgeNF has bridged frames pass a firewall that drops.
func TestBridgeNF(t *testing.T) {
	w := newHost(t)
	if _, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables"); err != nil {
		t.Skip("the kernel has no br_netfilter")
	}
	w.Sh("echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables")
	if code, bad := w.doctor(); code != allWell {
		t.Errorf("%d, %q", code, bad)
	}
	w.Sh("iptables -P FORWARD DROP")
	const check = "bridged frames are not dropped"
	if _, bad := w.doctor(); !strings.Contains(bad[check], "drops those of bridge br-web") {
		t.Errorf("%q", bad)
	}
	if code, bad := w.doctor("--fix"); code != allWell {
		t.Errorf("%d, %q", code, bad)
	}
}

// TestPolicies has a program apply policies to what is routed, on a host whose networks have
// bridges.
func TestPolicies(t *testing.T) {
	w := newHost(t)
	const check = "network policies see every packet"
	for _, path := range []string{"/proc/sys/net/bridge/bridge-nf-call-iptables", "/proc/sys/net/bridge/bridge-nf-call-ip6tables"} {
		if _, err := os.Stat(path); err == nil {
			w.Sh("echo 0 > " + path)
		}
	}
	if _, bad := w.doctor(); bad[check] != "" {
		t.Errorf("without policies: %q", bad[check])
	}
	w.Sh("nft add table inet kube-network-policies")
	w.Sh("nft add chain inet kube-network-policies postrouting '{ type filter hook postrouting priority 95; }'")
	if _, bad := w.doctor(); !strings.Contains(bad[check], "network web has a bridge, and bridged frames pass no policy: net.bridge.bridge-nf-call-iptables, net.bridge.bridge-nf-call-ip6tables is not 1") {
		t.Errorf("%q", bad)
	}
	if _, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables"); err != nil {
		t.Skip("the kernel has no br_netfilter")
	}
	w.Sh("echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables; echo 1 > /proc/sys/net/bridge/bridge-nf-call-ip6tables")
	if _, bad := w.doctor(); bad[check] != "" {
		t.Errorf("with br_netfilter: %q", bad[check])
	}
}

// TestBridgedPods: pods on a bridge want br_netfilter; other containers, and pods that the host
// routes to, do not.
func TestBridgedPods(t *testing.T) {
	pod := func(args map[string]string, veth *link.Veth) *attach.Attachment {
		return &attach.Attachment{Args: args, Steps: []attach.Step{veth}, Addresses: []attach.Address{{Prefix: netip.MustParsePrefix("10.1.0.2/24")}}}
	}
	called := map[string]string{"K8S_POD_NAME": "web"}
	for _, test := range []struct {
		a    *attach.Attachment
		nf   map[bool]bool
		want bool
	}{
		{pod(called, &link.Veth{Bridge: "br0"}), map[bool]bool{false: true}, true}, {pod(called, &link.Veth{Bridge: "br0"}), map[bool]bool{true: true}, false},
		{pod(called, &link.Veth{}), nil, false}, {pod(nil, &link.Veth{Bridge: "br0"}), nil, false},
	} {
		f := &facts{Host: hostFacts{Records: []*attach.Attachment{test.a}, BridgeNF: test.nf}}
		if found, err := checkBridgedPods(f); err != nil || (len(found) > 0) != test.want {
			t.Errorf("%+v, br_netfilter %v: %v, %v; want a problem: %v", test.a, test.nf, found, err, test.want)
		}
	}
}

func TestDeadRecords(t *testing.T) {
	for name, damage := range map[string]string{"gone": "ip netns del %[1]s", "another": "ip netns del %[1]s && ip netns add %[1]s",
		"plain file": "ip netns del %[1]s && touch /run/netns/%[1]s"} {
		t.Run(name, func(t *testing.T) {
			w := newHost(t)
			a := w.Container(3, false)
			w.Sh(fmt.Sprintf(damage, filepath.Base(a.Netns)))
			t.Cleanup(func() { _ = os.Remove(a.Netns) })
			code, bad := w.doctor()
			for range 50 { // the kernel ends the namespace
				if code == problems && strings.Contains(bad[inRecords], "1 of 3 records have no container") {
					break
				}
				time.Sleep(100 * time.Millisecond)
				code, bad = w.doctor()
			}
			if code != problems || !strings.Contains(bad[inRecords], "1 of 3 records have no container: container c3") {
				t.Fatalf("%d, %q", code, bad)
			}
			if code, out := w.gc(host.CollectOptions{DryRun: true}); code != allWell || !strings.HasPrefix(out, "would remove container c3 (network web, eth0): ") {
				t.Errorf("%d, %s", code, out)
			}
			if _, err := w.Store.Get(t.Context(), a.Key); err != nil {
				t.Errorf("--dry-run: %v", err)
			}
			if code, bad := w.doctor("--fix"); code != allWell || len(bad) > 0 {
				t.Errorf("%d, %q", code, bad)
			}
			all, err := w.Store.List(t.Context(), "")
			if err != nil || len(all) != 2 {
				t.Errorf("%d records, want those that are alive: %v", len(all), err)
			}
			if left := w.Sh("nft list table inet berth"); strings.Contains(left, a.Hash()) {
				t.Errorf("left:\n%s", left)
			}
			w.Container(3, false) // its address and port are free
		})
	}
}

func TestLostLease(t *testing.T) {
	w := newHost(t)
	lost := attach.Key{Network: "web", Container: "lost", IfName: "eth0"}
	all := []string{"10.81.0.77", "10.81.0.254", "fd00:81::77"}
	err := w.Store.Update(t.Context(), func(tx *attach.Tx) error {
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
	if code, out := w.gc(host.CollectOptions{Networks: []string{"other"}}); code != allWell || out != "" {
		t.Errorf("another network: %d, %s", code, out)
	}
	if code, bad := w.doctor("--fix"); code != allWell {
		t.Errorf("%d, %q", code, bad)
	}
	err = w.Store.View(t.Context(), func(tx *attach.Tx) error {
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

func TestOverlappingNetworks(t *testing.T) {
	w := newHost(t)
	err := w.Store.Update(t.Context(), func(tx *attach.Tx) error {
		return tx.PutNetwork(attach.Network{Name: "old", Plugin: "bridge", Link: "br-old", Subnets: []netip.Prefix{netip.MustParsePrefix("10.81.0.64/26")}})
	})
	if err != nil {
		t.Fatal(err)
	}
	if code, bad := w.doctor(); code != problems || !strings.Contains(bad[inOverlaps], "networks old and web have the same addresses") {
		t.Errorf("%d, %q", code, bad)
	}
	if code, out := w.gc(host.CollectOptions{Unused: true}); code != allWell || !strings.HasPrefix(out, "removed network old with bridge br-old: ") {
		t.Errorf("%d, %s", code, out)
	}
	if code, bad := w.doctor(); code != allWell {
		t.Errorf("%d, %q", code, bad)
	}
}

// TestDetached: a process is in the namespace, though its path is gone.
func TestDetached(t *testing.T) {
	w := newHost(t)
	a := w.Container(3, false)
	sleep := exec.Command("ip", "netns", "exec", filepath.Base(a.Netns), "sleep", "60")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = sleep.Process.Kill()
		_ = sleep.Wait()
	}()
	for range 100 { // until it is inside
		if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", sleep.Process.Pid)); strings.TrimSpace(string(comm)) == "sleep" {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.Sh("ip netns del " + filepath.Base(a.Netns))
	if code, bad := w.doctor("--fix"); code != problems || !strings.Contains(bad[inRecords], "1 containers go on without the path") {
		t.Errorf("%d, %q", code, bad)
	}
}

// With another state folder, nothing of what lives is taken for what was left.
func TestAnotherStateFolder(t *testing.T) {
	w := newHost(t)
	whole := func() string { return w.Sh("ip -br link show type veth") + w.Sh("nft -s list table inet berth") }
	before := whole()
	other := &testHost{&hosttest.Host{T: t, Dir: t.TempDir()}}
	other.Store = attach.New(other.Dir, cni.Decode)
	for what, command := range map[string]func(){"gc": func() { other.gc(host.CollectOptions{}) }, "reload": func() { other.reload() }} {
		command()
		if after := whole(); after != before {
			t.Fatalf("%s changed the host:\n%s\nbefore:\n%s", what, after, before)
		}
	}
	if code, bad := other.doctor(); code != problems || !strings.Contains(bad[inStateFile], "have no record") {
		t.Errorf("%d, %q", code, bad)
	}
	if code, bad := other.doctor("--fix"); code != allWell || whole() != before { // they get a record there, too
		t.Errorf("%d, %q: %s", code, bad, whole())
	}
	if code, bad := w.doctor(); code != allWell || len(bad) > 0 {
		t.Errorf("with the right folder: %d, %q", code, bad)
	}
}
