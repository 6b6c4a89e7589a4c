package etcd

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

// rss is the resident memory of a member, in bytes.
func (m *member) rss(t testing.TB) float64 {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", m.cmd.Process.Pid))
	check(t, err)
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			check(t, err)
			return float64(kb << 10)
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// fill puts nodes with a block of one network each into the store.
func fill(t testing.TB, c *clientv3.Client, n int) {
	t.Helper()
	network := overlaytest.Net("blue", "10.0.0.0/8")
	network.ID, network.VNI, network.Created = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", overlay.FirstVNI, time.Now().UTC()
	network.SetDefaults()
	ops := []clientv3.Op{put(DefaultPrefix+networks+"blue", network), clientv3.OpPut(DefaultPrefix+vnis+"4097", "blue")}
	s := &Store{o: Options{Prefix: DefaultPrefix}}
	for i := range n {
		lease, err := c.Grant(context.Background(), 600)
		check(t, err)
		now := time.Now().UTC().Truncate(time.Second)
		node := overlay.Node{Name: fmt.Sprintf("host%05d.rack.example", i), Token: fmt.Sprintf("%026d", i), MTU: 1500, Since: now, Seen: now,
			Address: netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)})}
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
		b := overlay.Block{Network: "blue", Prefix: p, Node: node.Name, Token: node.Token, Used: true}
		a := overlay.Alive{Node: node.Name, Instance: "01234567-89ab-cdef-0123-456789abcdef", Address: node.Address, Since: now}
		ops = append(ops, put(s.nodeKey(node.Name), node), put(s.blockKey(b.Key()), b), put(s.aliveKey(node.Name), a, clientv3.WithLease(lease.ID)))
		if len(ops) > maxOps || i == n-1 {
			_, err := c.Txn(context.Background()).Then(ops...).Commit()
			check(t, err)
			ops = nil
		}
	}
}

// BenchmarkRead is a full read, and what it costs the store to have it.
func BenchmarkRead(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			all := cluster(b, 1, "--auto-compaction-retention", "0")
			c := raw(b, all...)
			before, rss := dbSize(b, c, all[0]), all[0].rss(b)
			fill(b, c, n)
			after := dbSize(b, c, all[0])
			rss = all[0].rss(b) - rss
			s := open(b, all)
			bytes := 0.0
			_, err := s.read(context.Background(), DefaultPrefix, 0, func(kv *mvccpb.KeyValue) { bytes += float64(len(kv.Key) + len(kv.Value)) })
			check(b, err)
			sent, spent := metric(b, all[0], "etcd_network_client_grpc_sent_bytes_total"), metric(b, all[0], "process_cpu_seconds_total")
			for b.Loop() {
				if _, _, _, err := s.readAll(context.Background(), s.overlay()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric((metric(b, all[0], "etcd_network_client_grpc_sent_bytes_total")-sent)/float64(b.N), "sent-B/op")
			b.ReportMetric((metric(b, all[0], "process_cpu_seconds_total")-spent)/float64(b.N)*1e3, "etcd-cpu-ms/op")
			b.ReportMetric((after-before)/float64(n), "db-B/node")
			b.ReportMetric(rss/float64(n), "rss-B/node")
			b.ReportMetric(bytes/float64(n), "kv-B/node")
			var m0, m1 runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m0)
			state, err := s.State(context.Background())
			check(b, err)
			runtime.GC()
			runtime.ReadMemStats(&m1)
			b.ReportMetric(float64(m1.HeapAlloc-m0.HeapAlloc)/float64(n), "heap-B/node")
			if len(state.Blocks) != n || len(state.Bad) != 0 {
				b.Errorf("%d blocks, bad %v", len(state.Blocks), state.Bad)
			}
		})
	}
}

func dbSize(t testing.TB, c *clientv3.Client, m *member) float64 {
	t.Helper()
	time.Sleep(200 * time.Millisecond) // etcd commits its pages every 100 ms
	status, err := c.Status(limited(t), m.url)
	check(t, err)
	return float64(status.DbSizeInUse)
}

// BenchmarkRest is what hosts that do nothing ask of the store, each second. An
// operation is a second.
func BenchmarkRest(b *testing.B) {
	const hosts = 200
	all := cluster(b, 1)
	rss := all[0].rss(b)
	cpu := func() float64 { return metric(b, all[0], "process_cpu_seconds_total") }
	idle := cpu()
	time.Sleep(10 * time.Second)
	idle = (cpu() - idle) / 10
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{}, hosts)
	for i := range hosts {
		s := open(b, all, func(o *Options) { o.TTL = 0 })
		n := overlaytest.Node(fmt.Sprint("host", i), i)
		check(b, s.Register(ctx, n, "boot", false, overlaytest.NotLost(b)))
		go func() { _ = s.Watch(ctx, func(overlay.Update) {}); done <- struct{}{} }()
	}
	time.Sleep(2 * time.Second)
	count := func() (all3 [3]float64) {
		all3[0] = metric(b, all[0], "etcd_server_proposals_committed_total")
		all3[1] = metric(b, all[0], "grpc_server_msg_received_total", `grpc_method="LeaseKeepAlive"`)
		all3[2] = metric(b, all[0], "grpc_server_msg_received_total") - all3[1]
		return all3
	}
	was, wasCPU, start := count(), cpu(), time.Now()
	for b.Loop() {
		time.Sleep(time.Second)
	}
	took := time.Since(start).Seconds() * hosts
	is := count()
	b.ReportMetric((is[0]-was[0])/took, "writes/s/host")
	b.ReportMetric((is[1]-was[1])/took, "keepalives/s/host")
	b.ReportMetric((is[2]-was[2])/took, "others/s/host")
	b.ReportMetric(((cpu()-wasCPU)/took-idle/hosts)*1e6, "etcd-cpu-us/s/host")
	b.ReportMetric((all[0].rss(b)-rss)/hosts, "rss-B/host")
	cancel()
	for range hosts {
		<-done
	}
}

// BenchmarkChange is the time from one host's write to another's knowledge.
func BenchmarkChange(b *testing.B) {
	all := cluster(b, 1)
	c := raw(b, all...)
	fill(b, c, 1000)
	h := newHost(b, all, 0)
	i := 0
	for b.Loop() {
		i++
		block := overlaytest.BlockOf("blue", fmt.Sprintf("10.200.%d.0/24", i%256), h.node)
		block.Used = i/256%2 == 0
		check(b, h.Claim(context.Background(), block))
		h.Wait(b, "the block", func(s *overlay.State) bool { return s.Blocks[block.Key()] == block })
	}
}
