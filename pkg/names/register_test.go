package names_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/names/server"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/steptest"
	"golang.org/x/sys/unix"
)

// TestMain is also the program that [names.Start] runs, as `berth agent --on-demand`.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "agent" {
		if err := agent(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	nstest.Main(m)
}

// agent serves as long as somebody needs it, alone in its state folder. It notes that
// it was started.
func agent() error {
	dir := os.Getenv(attach.DirEnv)
	note, err := os.OpenFile(filepath.Join(dir, "started"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	in, _ := os.Readlink("/proc/self/fd/0")
	cwd, _ := os.Getwd()
	sid, _ := unix.Getsid(0)
	fmt.Fprintln(note, os.Args[1:], in, cwd, sid == os.Getpid(), os.Getenv("CNI_COMMAND") == "")
	lock, err := os.OpenFile(filepath.Join(dir, "test.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second) // whatever happens, it is not left
	defer cancel()
	return server.New(server.Config{StateDir: dir, OnDemand: true, Linger: 200 * time.Millisecond}).Run(ctx)
}

// stateDir makes a state folder with a program berth on PATH.
func stateDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "berth")); err != nil {
		t.Fatal(err)
	}
	t.Setenv(attach.DirEnv, dir)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("CNI_COMMAND", "ADD")
	return dir
}

func bridge(t testing.TB, name string) string {
	t.Helper()
	if err := nstest.Run("ip", "link", "add", name, "up", "type", "bridge"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nstest.Run("ip", "link", "del", name) })
	return name
}

func attachment(id, addr string) *attach.Attachment {
	return &attach.Attachment{Key: attach.Key{Network: "net", Container: id, IfName: "eth0"},
		Addresses: []attach.Address{{Prefix: netip.MustParsePrefix(addr)}}}
}

// serve runs a server in this process until the test ends.
func serve(t testing.TB, dir string) *server.Server {
	t.Helper()
	s := server.New(server.Config{StateDir: dir})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	<-s.Ready()
	return s
}

func TestRegister(t *testing.T) {
	dir := stateDir(t)
	s := serve(t, dir)
	r := &names.Register{Bridge: bridge(t, "br0"), Names: []string{"web", "www"}, Links: map[string]string{"db": "database"},
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Upstreams: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Internal: true}
	a := attachment("c", "10.1.0.2/24")
	steptest.Conform(t, r, a, steptest.Harmless, func() string {
		return fmt.Sprintf("%v %v", s.Directory().Local(), s.Status().Bridges)
	})
	if err := r.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	other := *r
	other.Names = []string{"web"}
	if err := other.Check(t.Context(), a); err == nil || !strings.Contains(err.Error(), "other names") {
		t.Errorf("Check of other names: %v", err)
	}
	bad := *r
	bad.Names = []string{"a..b"}
	if err := bad.Add(t.Context(), &attach.Adding{Attachment: attachment("d", "10.1.0.3/24")}); err == nil || !strings.Contains(err.Error(), "a..b") {
		t.Errorf("Add of a bad name: %v", err)
	}
	info, err := os.Stat(filepath.Join(dir, names.SocketName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %v, %v", info.Mode(), err)
	}
}

// TestSocket: what is no request harms nobody, and an agent that does not answer is
// not waited for.
func TestSocket(t *testing.T) {
	dir := stateDir(t)
	if _, err := names.Call(t.Context(), dir, names.Request{Do: names.DoStatus}); !errors.Is(err, names.ErrNoAgent) {
		t.Errorf("without an agent: %v", err)
	}
	path := filepath.Join(dir, names.SocketName)
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r := &names.Register{Bridge: "br0"}
	if err := r.Add(t.Context(), &attach.Adding{Attachment: attachment("c", "10.1.0.2/24")}); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("Add with an agent that hangs: %v", err)
	}
	if d := time.Since(began); d < 900*time.Millisecond || d > 20*time.Second {
		t.Errorf("it took %s", d)
	}
	l.SetUnlinkOnClose(false)
	l.Close() // as one that was killed
	if err := r.Del(t.Context(), attachment("c", "10.1.0.2/24")); err != nil {
		t.Errorf("Del with a dead agent: %v", err)
	}
	serve(t, dir)
	for _, s := range []string{"", "x", "{}", `{"do":"fly"}`, `{"do":"add"}`, `{"do":7}`, strings.Repeat("x", names.MaxMessage)} {
		c, err := net.Dial("unixpacket", path)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(2 * time.Second))
		if _, err := c.Write([]byte(s)); err != nil {
			t.Errorf("%.20q: %v", s, err)
		}
		buf := make([]byte, 1024)
		if n, err := c.Read(buf); s != "" && (err != nil || !strings.Contains(string(buf[:n]), "error")) {
			t.Errorf("%.20q: %s, %v", s, buf[:n], err)
		}
		c.Close()
	}
	long := &names.Register{Bridge: bridge(t, "br0")}
	for i := range 2000 {
		long.Names = append(long.Names, fmt.Sprintf("a-name-that-is-rather-long-%d", i))
	}
	if err := long.Add(t.Context(), &attach.Adding{Attachment: attachment("c", "10.1.0.2/24")}); err != nil {
		t.Errorf("Add of many names: %v", err)
	}
}

func started(t testing.TB, dir string) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "started"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

// TestStart: sixteen containers at once start one agent, which ends after them, and is
// started again.
func TestStart(t *testing.T) {
	dir := stateDir(t)
	r := &names.Register{Bridge: bridge(t, "br0"), Names: []string{"web"}}
	const n = 16
	each := func(fn func(*attach.Attachment) error) {
		t.Helper()
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				if err := fn(attachment(fmt.Sprint("c", i), fmt.Sprintf("10.1.0.%d/24", 2+i))); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	began := time.Now()
	each(func(a *attach.Attachment) error { return r.Add(t.Context(), &attach.Adding{Attachment: a}) })
	t.Logf("%d containers, with the agent's start: %s", n, time.Since(began))
	each(func(a *attach.Attachment) error { return r.Check(t.Context(), a) })
	if got := started(t, dir); len(got) != 1 || got[0] != "[agent --on-demand] /dev/null / true true" {
		t.Errorf("started: %q", got)
	}
	each(func(a *attach.Attachment) error { return r.Del(t.Context(), a) })
	deadline := time.Now().Add(5 * time.Second)
	for {
		_, err := names.Call(t.Context(), dir, names.Request{Do: names.DoStatus})
		if errors.Is(err, names.ErrNoAgent) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the agent does not end")
		}
		time.Sleep(20 * time.Millisecond)
	}
	// One that comes just when the agent ends.
	each(func(a *attach.Attachment) error { return r.Add(t.Context(), &attach.Adding{Attachment: a}) })
	each(func(a *attach.Attachment) error { return r.Check(t.Context(), a) })
	each(func(a *attach.Attachment) error { return r.Del(t.Context(), a) })
}

// TestStartBySystemd: where systemd has booted the machine the agent is a unit.
func TestStartBySystemd(t *testing.T) {
	dir := stateDir(t)
	if err := os.MkdirAll("/run/systemd/system", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll("/run/systemd") })
	script := "#!/bin/sh\necho \"$@\" > '" + dir + "/asked'\nwhile [ \"${1#--}\" != \"$1\" ]; do case $1 in --setenv=*) export \"${1#--setenv=}\";; esac; shift; done\n" +
		"unset CNI_COMMAND; cd /; setsid \"$@\" </dev/null >/dev/null 2>&1 &\n"
	if err := os.WriteFile(filepath.Join(dir, "systemd-run"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	r := &names.Register{Bridge: bridge(t, "br0"), Names: []string{"web"}}
	a := attachment("c", "10.1.0.2/24")
	if err := r.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	asked, err := os.ReadFile(filepath.Join(dir, "asked"))
	for _, want := range []string{"--collect", "--unit=berth-agent-on-demand", "--setenv=" + attach.DirEnv + "=" + dir, filepath.Join(dir, "berth") + " agent --on-demand"} {
		if err != nil || !strings.Contains(string(asked), want) {
			t.Errorf("systemd-run was asked %q without %s: %v", asked, want, err)
		}
	}
	if err := r.Del(t.Context(), a); err != nil {
		t.Error(err)
	}
}

// TestCannotStart: without the program, or with one that ends, the error says so.
func TestCannotStart(t *testing.T) {
	dir := stateDir(t)
	r := &names.Register{Bridge: "br0", Names: []string{"web"}}
	path := os.Getenv("PATH")
	t.Setenv("PATH", "/nowhere")
	if err := r.Add(t.Context(), &attach.Adding{Attachment: attachment("c", "10.1.0.2/24")}); err == nil || !strings.Contains(err.Error(), "on PATH") {
		t.Errorf("without the program: %v", err)
	}
	t.Setenv("PATH", path)
	if err := os.Remove(filepath.Join(dir, "berth")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "berth"), []byte("#!/bin/sh\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 700*time.Millisecond, errors.New("the runtime went away"))
	defer cancel()
	err := r.Add(ctx, &attach.Adding{Attachment: attachment("c", "10.1.0.2/24")})
	for _, want := range []string{"the runtime went away", "agent", "--on-demand", "exit status 3"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

// BenchmarkRegister is what names cost an ADD and a DEL beside an agent that runs: of
// the only container of a network, for which the agent begins to listen and ends, and
// of one among 1,000. The agent is a process of its own.
func BenchmarkRegister(b *testing.B) {
	for _, others := range []int{0, 1000} {
		b.Run(fmt.Sprint("beside ", others), func(b *testing.B) { benchmarkRegister(b, others) })
	}
}

func benchmarkRegister(b *testing.B, others int) {
	stateDir(b)
	r := &names.Register{Bridge: bridge(b, "br0"), Names: []string{"web", "www", "0123456789ab"}}
	keep := &names.Register{Bridge: bridge(b, "br1"), Names: []string{"keep"}}
	each := func(fn func(*names.Register, *attach.Attachment) error) {
		b.Helper()
		err := fn(keep, attachment("keep", "10.2.0.2/24")) // the agent
		for i := range others {
			err = errors.Join(err, fn(r, attachment(fmt.Sprint("c", i), fmt.Sprintf("10.1.%d.%d/16", 1+i/200, 1+i%200))))
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	each(func(r *names.Register, a *attach.Attachment) error {
		return r.Add(b.Context(), &attach.Adding{Attachment: a})
	})
	a := attachment("me", "10.1.0.2/16")
	var add, del time.Duration
	for b.Loop() {
		t0 := time.Now()
		if err := r.Add(b.Context(), &attach.Adding{Attachment: a}); err != nil {
			b.Fatal(err)
		}
		t1 := time.Now()
		if err := r.Del(b.Context(), a); err != nil {
			b.Fatal(err)
		}
		add, del = add+t1.Sub(t0), del+time.Since(t1)
	}
	b.ReportMetric(float64(add.Microseconds())/float64(b.N), "µs/add")
	b.ReportMetric(float64(del.Microseconds())/float64(b.N), "µs/del")
	each(func(r *names.Register, a *attach.Attachment) error { return r.Del(b.Context(), a) })
}
