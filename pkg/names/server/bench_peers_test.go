package server

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// Where the servers that [BenchmarkServers] asks beside ours listen, at port 53.
const (
	dnsmasqAddress  = "10.5.255.1"
	aardvarkAddress = "10.5.255.2"
	echoAddress     = "10.5.255.3"
)

// benchDnsmasq starts dnsmasq with the names; nil where it is not installed.
func benchDnsmasq(b *testing.B) *contender {
	if _, err := exec.LookPath("dnsmasq"); err != nil {
		b.Log("dnsmasq is not installed")
		return nil
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
		"--pid-file=", "--addn-hosts="+hosts, "--listen-address="+dnsmasqAddress, "--bind-interfaces", "--local-ttl=5")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Kill()
		_ = cmd.Wait()
	})
	answers(b, dnsmasqAddress)
	return &contender{name: "dnsmasq", address: dnsmasqAddress, port: 53, pid: cmd.Process.Pid}
}

// benchAardvark starts aardvark-dns with the names; nil where it is not installed.
func benchAardvark(b *testing.B) *contender {
	const path = "/usr/lib/podman/aardvark-dns"
	if _, err := os.Stat(path); err != nil {
		b.Log("aardvark-dns is not installed")
		return nil
	}
	dir := b.TempDir()
	var text strings.Builder
	fmt.Fprintf(&text, "%s\nclient %s  client\n", aardvarkAddress, "10.5.0.2")
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
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
	answers(b, aardvarkAddress)
	return &contender{name: "aardvark", address: aardvarkAddress, port: 53, pid: pid}
}

// answers waits until a server answers on port 53.
func answers(b *testing.B, address string) {
	b.Helper()
	for range 100 {
		conn, err := net.Dial("udp", address+":53")
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
	b.Fatalf("nobody answers at %s, port 53", address)
}
