package server

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/nstest"
	"golang.org/x/sys/unix"
)

const (
	manyNames    = 1000
	benchGateway = "10.5.0.1"
	benchNetwork = "bench"
	calmRate     = 20000 // queries a second, at which the 99th percentile is taken
)

// contender is a server that is asked in turn with the others, and what came of it.
type contender struct {
	name, address string
	port, pid     int

	rate, cpu, late []float64 // queries a second; µs of processor a query; µs that 99 of 100 answers take at most
}

// BenchmarkServers has dnsperf (Debian) ask this server, dnsmasq (Debian's
// dnsmasq-base), aardvark-dns (Debian) and one that only sends each packet back for
// one of 1,000 names, in turn, two seconds each a round: as fast as it can, and at
// [calmRate]. The servers have one processor, dnsperf another. Medians are told.
func BenchmarkServers(b *testing.B) {
	if _, err := exec.LookPath("dnsperf"); err != nil {
		b.Skip("dnsperf is not installed")
	}
	if runtime.NumCPU() < 2 {
		b.Skip("one processor for the servers and one for dnsperf")
	}
	br := bridge(b, benchGateway+"/16", dnsmasqAddress+"/16", aardvarkAddress+"/16", echoAddress+"/16")
	c := container(b, br, "10.5.0.2/16")
	pin(b, os.Getpid())
	s := start(b, Config{})
	put(b, s, entry(benchNetwork, "client", "eth0", br, "client", "10.5.0.2/16"))
	var text strings.Builder
	for i := range manyNames {
		put(b, s, entry(benchNetwork, fmt.Sprint("c", i), "eth0", br, fmt.Sprint("name", i), benchAddress(i)+"/16"))
		fmt.Fprintf(&text, "name%d A\n", i)
	}
	queries := filepath.Join(b.TempDir(), "queries")
	if err := os.WriteFile(queries, []byte(text.String()), 0o644); err != nil {
		b.Fatal(err)
	}
	run(b, "nft", `table inet bench {
		chain pre {
			type nat hook prerouting priority -110;
			iifname "`+br+`" ip daddr `+benchGateway+` udp dport 53 redirect to :`+strconv.Itoa(names.Port)+`
		}
	}`)
	b.Cleanup(func() { _ = nstest.Run("nft", "delete table inet bench") })
	all := []*contender{
		{name: "berth", address: benchGateway, port: names.Port, pid: os.Getpid()},
		{name: "redirected", address: benchGateway, port: 53, pid: os.Getpid()}, // as containers come, through connection tracking
		benchEcho(b),
	}
	for _, peer := range []*contender{benchDnsmasq(b), benchAardvark(b)} {
		if peer != nil {
			pin(b, peer.pid)
			all = append(all, peer)
		}
	}
	b.ResetTimer()
	for range b.N {
		for _, to := range all {
			before := cpuTime(b, to.pid)
			rate, count := c.fastest(b, queries, to)
			to.rate = append(to.rate, rate)
			to.cpu = append(to.cpu, (cpuTime(b, to.pid)-before)/count*1e6)
			to.late = append(to.late, c.percentile(b, queries, to))
		}
	}
	for _, to := range all {
		b.ReportMetric(median(to.rate), to.name+"-queries/s")
		b.ReportMetric(median(to.cpu), to.name+"-cpu-µs/query")
		b.ReportMetric(median(to.late), to.name+"-p99-µs")
	}
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

func benchAddress(i int) string { return fmt.Sprintf("10.5.%d.%d", 1+i/250, 1+i%250) }

// pin keeps the threads of a process, and those that it starts, on the first processor.
func pin(b *testing.B, pid int) {
	b.Helper()
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		b.Fatal(err)
	}
	var first unix.CPUSet
	first.Set(0)
	for _, t := range threads {
		id, _ := strconv.Atoi(t.Name())
		if err := unix.SchedSetaffinity(id, &first); err != nil && err != unix.ESRCH {
			b.Fatal(err)
		}
	}
}

// dnsperf asks a server from the second processor for two seconds.
func (c box) dnsperf(b *testing.B, queries string, to *contender, args ...string) string {
	b.Helper()
	args = append([]string{"netns", "exec", filepath.Base(c.path), "taskset", "-c", "1",
		"dnsperf", "-s", to.address, "-p", strconv.Itoa(to.port), "-d", queries, "-l", "2", "-c", "4", "-q", "100"}, args...)
	out, err := nstest.Output("ip", args...)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

// fastest returns how many queries a second were answered, and how many in all. All
// that were not lost must be answered well.
func (c box) fastest(b *testing.B, queries string, to *contender) (rate, count float64) {
	b.Helper()
	out := c.dnsperf(b, queries, to)
	number := func(pattern string) float64 {
		m := regexp.MustCompile(pattern).FindStringSubmatch(out)
		if m == nil {
			b.Fatalf("no %s in\n%s", pattern, out)
		}
		f, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			b.Fatal(err)
		}
		return f
	}
	if number(`NOERROR \d+ \((\d+)`) != 100 {
		b.Fatalf("not all were answered:\n%s", out)
	}
	return number(`Queries per second:\s+([0-9.]+)`), number(`Queries completed:\s+(\d+)`)
}

// percentile returns in how many µs 99 of 100 queries were answered at [calmRate].
func (c box) percentile(b *testing.B, queries string, to *contender) float64 {
	b.Helper()
	out := c.dnsperf(b, queries, to, "-v", "-Q", strconv.Itoa(calmRate))
	var took []float64
	for _, m := range regexp.MustCompile(`(?m)^> NOERROR \S+ A ([0-9.]+)$`).FindAllStringSubmatch(out, -1) {
		f, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, f*1e6)
	}
	if len(took) < calmRate {
		b.Fatalf("%d answers of %s in two seconds", len(took), to.name)
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// cpuTime is what a process has used, in seconds (proc_pid_stat(5)).
func cpuTime(t testing.TB, pid int) float64 {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, behind, _ := strings.Cut(string(data), ") ")
	f := strings.Fields(behind)
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	const ticks = 100 // USER_HZ
	return float64(user+system) / ticks
}

// benchEcho sends each packet back as an answer without a record, by the same system
// calls: what is left of a server without the names.
func benchEcho(b *testing.B) *contender {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(echoAddress), Port: 53})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	raw, err := conn.SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	batch := newBatch(raw)
	go func() {
		for {
			n, err := batch.receive()
			if err != nil {
				return
			}
			for i := range n {
				msg := batch.message(i)
				msg[2] |= flagQR >> 8
				batch.reply(i, i, len(msg))
			}
			batch.send(n)
		}
	}()
	return &contender{name: "echo", address: echoAddress, port: 53, pid: os.Getpid()}
}
