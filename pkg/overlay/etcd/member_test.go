package etcd

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

// member is a real etcd, in this test's sandbox.
type member struct {
	url  string
	args []string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

// nextPort is a port of the sandbox's own loopback, where nobody else is.
var nextPort atomic.Int32

func port() int { return 20000 + int(nextPort.Add(1)) }

// cluster starts n members, with more arguments for each.
func cluster(t testing.TB, n int, more ...string) []*member {
	t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		t.Fatal("no etcd: install Debian's package etcd-server")
	}
	scheme := "http"
	if strings.Contains(strings.Join(more, " "), "--cert-file") {
		scheme = "https"
	}
	var all []*member
	var initial []string
	for i := range n {
		m := &member{url: fmt.Sprintf("%s://127.0.0.1:%d", scheme, port())}
		peer := fmt.Sprintf("http://127.0.0.1:%d", port())
		dir := t.TempDir()
		m.log = filepath.Join(dir, "log")
		name := fmt.Sprint("m", i)
		initial = append(initial, name+"="+peer)
		m.args = append([]string{
			"--name", name, "--data-dir", filepath.Join(dir, "data"),
			"--listen-client-urls", m.url, "--advertise-client-urls", m.url,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--heartbeat-interval", "50", "--election-timeout", "500",
		}, more...)
		all = append(all, m)
	}
	for _, m := range all {
		m.args = append(m.args, "--initial-cluster", strings.Join(initial, ","))
		m.start(t)
		t.Cleanup(func() { m.kill(t) })
	}
	if scheme == "http" {
		ready(t, all)
	}
	return all
}

func (m *member) start(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(m.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	m.cmd = exec.Command("etcd", m.args...)
	m.cmd.Stdout, m.cmd.Stderr = log, log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	m.done = make(chan struct{})
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // Pdeathsig is about the thread
		defer runtime.UnlockOSThread()
		defer close(m.done)
		err := m.cmd.Start()
		started <- err
		if err == nil {
			_ = m.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
}

func (m *member) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := m.cmd.Process.Signal(s); err != nil {
		t.Fatalf("signal %s to etcd: %v", s, err)
	}
}

// kill ends the process at once, as a power cut does.
func (m *member) kill(t testing.TB) {
	_ = m.cmd.Process.Signal(syscall.SIGKILL)
	<-m.done
}

// stop ends it in good order.
func (m *member) stop(t testing.TB) {
	t.Helper()
	m.signal(t, syscall.SIGTERM)
	<-m.done
}

// elsewhere starts a member that has been stopped where nobody looks for it.
func (m *member) elsewhere(t testing.TB) *member {
	t.Helper()
	e := &member{url: fmt.Sprintf("http://127.0.0.1:%d", port()), log: m.log}
	e.args = append(slices.Clone(m.args), "--listen-client-urls", e.url)
	e.start(t)
	ready(t, []*member{e})
	return e
}

// compact makes the store's history begin behind what anybody has seen.
func (m *member) compact(t testing.TB) {
	t.Helper()
	c := raw(t, m)
	_, err := c.Put(limited(t), DefaultPrefix+"generation", "x")
	check(t, err)
	got, err := c.Put(limited(t), DefaultPrefix+"generation", "y")
	check(t, err)
	_, err = c.Compact(limited(t), got.Header.Revision)
	check(t, err)
}

func urls(all []*member) (u []string) {
	for _, m := range all {
		u = append(u, m.url)
	}
	return u
}

// ready waits until the members answer.
func ready(t testing.TB, all []*member) {
	t.Helper()
	c := raw(t, all...)
	ctx, cancel := context.WithTimeout(context.Background(), overlaytest.Patience)
	defer cancel()
	for {
		try, stop := context.WithTimeout(ctx, time.Second)
		_, err := c.Get(try, "ready")
		stop()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			log, _ := os.ReadFile(all[0].log)
			t.Fatalf("etcd does not answer: %v\n%s", err, log)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// raw is somebody else's client, who may write what it wants.
func raw(t testing.TB, all ...*member) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: urls(all), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

const testTTL = 2 * time.Second

// open is a host's way to the members. Change may change the options.
func open(t testing.TB, all []*member, change ...func(*Options)) *Store {
	t.Helper()
	o := Options{Endpoints: urls(all), TTL: testTTL, RequestTimeout: 2 * time.Second, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))}
	for _, c := range change {
		c(&o)
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func prefix(p string) func(*Options) { return func(o *Options) { o.Prefix = p } }

func TestConform(t *testing.T) {
	t.Parallel()
	all := cluster(t, 1)
	var n atomic.Int32
	overlaytest.Conform(t, func(testing.TB) overlaytest.Backend {
		p := prefix(fmt.Sprintf("/test%d/", n.Add(1)))
		return overlaytest.Backend{TTL: testTTL, Open: func(t testing.TB) overlay.Store { return open(t, all, p) }}
	})
}
