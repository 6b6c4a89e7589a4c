package overlay

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
)

// TestBridgeRepair has somebody change each thing that a network's containers share on a
// host, on the way between them and the VXLAN device, while packets flow between hosts and
// on the host. The agent puts it back as the kernel tells of it.
func TestBridgeRepair(t *testing.T) {
	b := newBed(t, 2, options{})
	h := b.Hosts[0]
	n := b.definition(h, "blue")
	bridge := n.Bridge()
	one, two, far := b.container(h, "one"), b.container(h, "two"), b.container(b.Hosts[1], "far")
	b.reaches(one, two, far)
	near, err := h.Peer("blue", false)
	must(t, err)
	whole := func() string { return bridgeState(h, bridge) }
	b.eventually(patience, func() error { // the kernel's own entries come a moment later
		was := whole()
		time.Sleep(300 * time.Millisecond)
		if now := whole(); now != was {
			return errors.New(now)
		}
		return nil
	})
	want := whole()
	var late []string
	for _, damage := range []string{
		"ip link del " + bridge,
		"ip link set " + bridge + " down",
		"ip addr flush dev " + bridge,
		fmt.Sprintf("ip addr del %s/%d dev %s", near.Blocks[0].Addr().Next(), near.Blocks[0].Bits(), bridge),
		fmt.Sprintf("ip addr del %s/%d dev %s", near.Blocks[1].Addr().Next(), near.Blocks[1].Bits(), bridge),
		fmt.Sprintf("ip route del %s dev %s", near.Blocks[0], bridge),
		fmt.Sprintf("ip route replace %s dev eth0", near.Blocks[0]),
		fmt.Sprintf("ip -6 route del %s dev %s", near.Blocks[1], bridge),
		"ip link set " + bridge + " mtu 9000",
		"ip link set " + bridge + " mtu 1300",
		"ip link set " + bridge + " address 02:00:00:00:00:01",
		"sysctl -qw net.ipv4.ip_forward=0",
		"sysctl -qw net.ipv6.conf.all.forwarding=0",
		"sysctl -qw net.ipv4.conf." + bridge + ".forwarding=0",
		"sysctl -qw net.ipv6.conf." + bridge + ".forwarding=0",
		"sysctl -qw net.ipv6.conf." + bridge + ".disable_ipv6=1",
		"sysctl -qw net.ipv6.conf." + bridge + ".accept_ra=2",
		"nft flush ruleset",
		"nft delete table inet berth",
		"nft flush chain inet berth forward",
	} {
		var flows []*cluster.Flow
		for _, p := range []*place{two, far} {
			for _, a := range p.addrs {
				f, err := cluster.StartFlow(one, p, a, time.Millisecond)
				must(t, err)
				flows = append(flows, f)
			}
		}
		time.Sleep(50 * time.Millisecond)
		if _, err := h.Output("sh", "-c", damage); err != nil {
			t.Errorf("%s: %v", damage, err)
		}
		start := time.Now()
		for now := whole(); now != want; now = whole() {
			if time.Since(start) > patience {
				t.Errorf("%s\nwant:\n%s\nhave:\n%s", damage, want, now)
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		took := time.Since(start)
		if told := !strings.Contains(damage, "accept_ra"); told && took > time.Second { // else the next comparison sees it
			late = append(late, damage)
		}
		time.Sleep(100 * time.Millisecond)
		lost, longest := 0, time.Duration(0)
		for _, f := range flows {
			r := f.Stop()
			lost, longest = lost+r.Lost(), max(longest, r.Longest)
		}
		if longest > slow {
			t.Errorf("%s: nothing arrived for %v", damage, longest)
		}
		t.Logf("%-60s put right after %4d ms, %5d datagrams lost, nothing for %v at most", damage, took.Milliseconds(), lost, longest.Round(time.Millisecond))
		must(t, b.network(h, "blue").Check(one.Container))
	}
	// What the kernel does not tell of is put right every 5 s. A busy machine may be late, too.
	if len(late) > 5 {
		t.Errorf("put right by the comparison of everything: %q", late)
	}
}

// bridgeState is what the kernel has of a bridge, in a text that is the same for the same.
func bridgeState(h *cluster.Host, bridge string) string {
	out, err := h.Output("sh", "-c", fmt.Sprintf(`
		ip -o link show %[1]s | sed 's/^[0-9]*: //'
		ip -o link show master %[1]s | sed 's/^[0-9]*: //; s/link-netns.*//' | sort
		ip -o addr show %[1]s scope global | sed 's/^[0-9]*: //' | sort
		ip route show dev %[1]s; ip -6 route show dev %[1]s | grep -v fe80
		cd /proc/sys/net
		grep -H . ipv4/ip_forward ipv6/conf/all/forwarding
		grep -H . ipv4/conf/%[1]s/forwarding ipv6/conf/%[1]s/forwarding ipv6/conf/%[1]s/disable_ipv6 ipv6/conf/%[1]s/accept_ra`, bridge))
	if err != nil {
		out += err.Error()
	}
	table, err := h.Output("nft", "-s", "list", "ruleset")
	if err != nil {
		table += err.Error()
	}
	lines := strings.FieldsFunc(table, func(r rune) bool { return strings.ContainsRune(" \t\n,", r) })
	slices.Sort(lines) // the elements of a set come in no order
	return out + strings.Join(lines, " ")
}
