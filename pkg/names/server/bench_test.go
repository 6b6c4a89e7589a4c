package server

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

const (
	manyNames    = 1000
	benchGateway = "10.5.0.1"
	benchNetwork = "bench"
)

// BenchmarkServers has dnsperf (Debian) ask this server, dnsmasq (Debian's
// dnsmasq-base) and aardvark-dns (Debian) for one of 1,000 names for two seconds each,
// on one machine: queries a second. The peers listen on port 53.
func BenchmarkServers(b *testing.B) {
	if _, err := exec.LookPath("dnsperf"); err != nil {
		b.Skip("dnsperf is not installed")
	}
	br := bridge(b, benchGateway+"/16")
	c := container(b, br, "10.5.0.2/16")
	queries := filepath.Join(b.TempDir(), "queries")
	var text strings.Builder
	for i := range manyNames {
		fmt.Fprintf(&text, "name%d A\n", i)
	}
	if err := os.WriteFile(queries, []byte(text.String()), 0o644); err != nil {
		b.Fatal(err)
	}
	perf := func(b *testing.B, pid, port int) {
		for range b.N {
			before := cpuTime(b, pid)
			rate, count := c.dnsperf(b, queries, port)
			b.ReportMetric(rate, "queries/s")
			b.ReportMetric((cpuTime(b, pid)-before)/count*1e6, "cpu-µs/query")
		}
	}
	s := start(b, Config{})
	put(b, s, entry(benchNetwork, "client", "eth0", br, "client", "10.5.0.2/16"))
	for i := range manyNames {
		put(b, s, entry(benchNetwork, fmt.Sprint("c", i), "eth0", br, fmt.Sprint("name", i), benchAddress(i)+"/16"))
	}
	b.Run("berth", func(b *testing.B) { perf(b, os.Getpid(), names.Port) })
	b.Run("redirected", func(b *testing.B) { // as containers come, through connection tracking
		run(b, "nft", `table inet bench {
			chain pre {
				type nat hook prerouting priority -110;
				iifname "`+br+`" fib daddr type local udp dport 53 redirect to :10053
			}
		}`)
		defer run(b, "nft", "delete table inet bench")
		perf(b, os.Getpid(), 53)
	})
	b.Run("dnsmasq", func(b *testing.B) { perf(b, benchDnsmasq(b), 53) })
	b.Run("aardvark", func(b *testing.B) { perf(b, benchAardvark(b), 53) })
}

func benchAddress(i int) string { return fmt.Sprintf("10.5.%d.%d", 1+i/250, 1+i%250) }

// dnsperf returns how many queries a second were answered, and how many in all. All
// that were not lost must be answered well.
func (b box) dnsperf(t testing.TB, queries string, port int) (rate, count float64) {
	t.Helper()
	out, err := nstest.Output("ip", "netns", "exec", filepath.Base(b.path),
		"dnsperf", "-s", benchGateway, "-p", strconv.Itoa(port), "-d", queries, "-l", "2", "-c", "4", "-q", "100", "-t", "1")
	if err != nil {
		t.Fatal(err)
	}
	number := func(pattern string) float64 {
		m := regexp.MustCompile(pattern).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("no %s in\n%s", pattern, out)
		}
		f, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if number(`NOERROR \d+ \((\d+)`) != 100 {
		t.Fatalf("not all were answered:\n%s", out)
	}
	return number(`Queries per second:\s+([0-9.]+)`), number(`Queries completed:\s+(\d+)`)
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

func benchDnsmasq(b *testing.B) (pid int) {
	if _, err := exec.LookPath("dnsmasq"); err != nil {
		b.Skip("dnsmasq is not installed")
	}
	hosts := filepath.Join(b.TempDir(), "hosts")
	var text strings.Builder
	for i := range manyNames {
		fmt.Fprintf(&text, "%s name%d\n", benchAddress(i), i)
	}
	if err := os.WriteFile(hosts, []byte(text.String()), 0o644); err != nil {
		b.Fatal(err)
	}
	os.Chmod(filepath.Dir(hosts), 0o755)
	cmd := exec.Command("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root",
		"--pid-file=", "--addn-hosts="+hosts, "--listen-address="+benchGateway, "--bind-interfaces", "--local-ttl=5")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Kill()
		_ = cmd.Wait()
	})
	answers(b)
	return cmd.Process.Pid
}

func benchAardvark(b *testing.B) (pid int) {
	const path = "/usr/lib/podman/aardvark-dns"
	if _, err := os.Stat(path); err != nil {
		b.Skip("aardvark-dns is not installed")
	}
	dir := b.TempDir()
	var text strings.Builder
	fmt.Fprintf(&text, "%s\nclient %s  client\n", benchGateway, "10.5.0.2")
	for i := range manyNames {
		fmt.Fprintf(&text, "%064d %s  name%d\n", i, benchAddress(i), i)
	}
	if err := os.WriteFile(filepath.Join(dir, benchNetwork), []byte(text.String()), 0o644); err != nil {
		b.Fatal(err)
	}
	run(b, path, "--config", dir, "--port", "53", "run") // it forks
	data, err := os.ReadFile(filepath.Join(dir, "aardvark.pid"))
	if err != nil {
		b.Fatal(err)
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(string(data))); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
	answers(b)
	return pid
}

// answers waits until a server answers on port 53.
func answers(b *testing.B) {
	b.Helper()
	for range 100 {
		conn, err := net.Dial("udp", benchGateway+":53")
		if err != nil {
			b.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(50 * time.Millisecond))
		d := &dns.Conn{Conn: conn}
		_ = d.WriteMsg(question("name1", dns.TypeA))
		_, err = d.ReadMsg()
		conn.Close()
		if err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.Fatal("nobody answers on port 53")
}
