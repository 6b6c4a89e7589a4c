package overlay

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	model "github.com/berth-cni/berth/pkg/overlay"
)

// BenchmarkSpeedEncrypted is BenchmarkSpeed of an encrypted network, beside WireGuard of the
// same program that is set up by hand, on hosts without any firewall and on hosts that masquerade.
func BenchmarkSpeedEncrypted(b *testing.B) {
	bed := newBed(b, 2, options{create: encrypted})
	a, z := bed.container(bed.Hosts[0], "a"), bed.container(bed.Hosts[1], "z")
	hand := byHandEncrypted(bed, model.Network{Name: "by-hand", VNI: 77, Encrypted: true, ListenPort: 51777}, 3)
	nat := byHandEncrypted(bed, model.Network{Name: "by-hand-nat", VNI: 78, Encrypted: true, ListenPort: 51778}, 5)
	masqueradeOn(b, nat)
	bed.eventually(10*time.Second, func() error { return errors.Join(reach(hand[0], hand[1]), reach(nat[0], nat[1])) })
	bed.reaches(a, z)
	b.ResetTimer()
	measureSpeed(b, bed, []*place{a, z}, hand, nat)
	if b.N > 1 {
		n := bed.definition(bed.Hosts[0], "blue")
		costs, err := cluster.Interleave(b.N, tunnelCost("wg77", hand[0], hand[1]), tunnelCost("wg78", nat[0], nat[1]), tunnelCost(n.Device(), a, z))
		must(b, err)
		b.ReportMetric(costs[2].Median(), "s/GB") // a log has no more than ten lines
		b.ReportMetric(costs[2].Of(costs[0]).Median(), "cost/by-hand")
		b.ReportMetric(costs[2].Of(costs[1]).Median(), "cost/by-hand-NAT")
	}
}

// tunnelCost measures the processor time that the WireGuard processes of two hosts take for
// what passes between them, in s/GB: what else the machine has to do changes it less than
// the throughput.
func tunnelCost(device string, from, to *place) func() (float64, error) {
	return func() (float64, error) {
		const run = 500 * time.Millisecond
		before, err := tunnelTime(device, from, to)
		if err != nil {
			return 0, err
		}
		start := time.Now()
		rate, err := cluster.Throughput(from, to, to.addrs[0], 1, run)
		if err != nil {
			return 0, err
		}
		sent := rate / 8 * time.Since(start).Seconds()
		after, err := tunnelTime(device, from, to)
		return (after - before) / (sent / 1e9), err
	}
}

// tunnelTime is how long the processes that have a device on these containers' hosts have
// run, in seconds.
func tunnelTime(device string, places ...*place) (seconds float64, err error) {
	for _, p := range places {
		err = errors.Join(err, p.host.Do(func() error {
			line, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cluster.Tunnels()[device]))
			if err != nil {
				return err
			}
			fields := strings.Fields(string(line[strings.LastIndexByte(string(line), ')')+1:]))
			for _, ticks := range fields[11:13] { // utime and stime, in 1/100 s
				n, err := strconv.Atoi(ticks)
				if err != nil {
					return err
				}
				seconds += float64(n) / 100
			}
			return nil
		}))
	}
	return seconds, err
}

// byHandEncrypted builds an encrypted network by hand on two more hosts, with a container
// on each.
func byHandEncrypted(bed *bed, n model.Network, first int) (places []*place) {
	bed.t.Helper()
	const mtu = 1440
	var peers []cluster.Peer
	hosts := len(bed.Hosts)
	for i := range 2 {
		h, err := bed.Host(fmt.Sprintf("h%d", first+i), first+i)
		must(bed.t, err)
		peers = append(peers, cluster.Peer{Name: h.Name, Address: h.Addr4, MTU: mtu, Blocks: []netip.Prefix{
			netip.MustParsePrefix(fmt.Sprintf("10.%d.%d.0/24", n.VNI, i)), netip.MustParsePrefix(fmt.Sprintf("fd00:%d:0:%d::/64", n.VNI, i))}})
	}
	keys := make([]cluster.TunnelKey, 2)
	for i := range keys {
		keys[i] = cluster.NewTunnelKey()
		peers[i].Key = keys[i].Public()
	}
	for i, h := range bed.Hosts[hosts:] {
		// A session of its own, as Berth's has: where the scheduler groups processes by
		// sessions (autogroup, sched(7)) that makes a difference of half.
		_, err := h.Start("setsid", filepath.Join(bed.bin, "berth"), "wireguard", "--mtu", fmt.Sprint(mtu), n.Device())
		must(bed.t, err)
		must(bed.t, h.EncryptByHand(n, keys[i], peers[i], peers))
		c, addrs, err := h.ContainerByHand(n, peers[i], "hand-"+h.Name, 1)
		must(bed.t, err)
		places = append(places, &place{c, h, addrs})
	}
	return places
}
