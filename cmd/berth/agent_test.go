package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/overlay"
)

// buffer is what the agent logs into while a test reads.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// systemd listens like the service manager; the function waits for its next message.
func systemd(t *testing.T) (next func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func() string {
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		buf := make([]byte, 4096)
		n, err := c.Read(buf)
		if err != nil {
			return err.Error()
		}
		return string(buf[:n])
	}
}

// The agent starts, says so, answers, and ends when it is told to.
func TestAgent(t *testing.T) {
	// Not in a namespace of the test's own: the agent has threads of its own, which are
	// in the sandbox's.
	for _, args := range [][]string{{"link", "add", "under", "type", "veth", "peer", "name", "far"}, {"link", "set", "under", "up"},
		{"address", "add", "192.0.2.1/24", "dev", "under"}} {
		if err := nstest.Run("ip", args...); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = nstest.Run("ip", "link", "del", "under") })
	next := systemd(t)
	var log buffer
	p := &program{out: io.Discard, err: &log, open: func(s *settings, _ *slog.Logger) (overlay.Store, error) {
		return &memory{state: overlay.NewState()}, nil
	}}
	config := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(config, []byte("listen: 127.0.0.1:9477\nlog-format: json\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	args := []string{"agent", "--config", config, "--node-name", "host-a", "--underlay", "under", "--data-dir", t.TempDir(), "--state-dir", t.TempDir()}
	code := make(chan int, 1)
	go func() { code <- run(ctx, p, args...) }()

	if got := next(); got != "READY=1" {
		t.Fatalf("systemd is told %q\n%s", got, log.String())
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		status := ""
		for range 50 { // until it is ready
			resp, err := http.Get("http://127.0.0.1:9477" + path)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if status = resp.Status; resp.StatusCode == http.StatusOK {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if status != "200 OK" {
			t.Errorf("%s: %s\n%s", path, status, log.String())
		}
	}
	second := &program{out: io.Discard, err: &buffer{}, open: p.open}
	if got := run(ctx, second, args...); got != exitFailed || !strings.Contains(second.err.(*buffer).String(), "does another agent run") {
		t.Errorf("a second agent: %d, %s", got, second.err)
	}
	stop()
	if got := next(); got != "STOPPING=1" {
		t.Errorf("systemd is told %q", got)
	}
	select {
	case got := <-code:
		if got != exitDone {
			t.Errorf("exit code %d\n%s", got, log.String())
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("the agent does not end\n%s", log.String())
	}
	if _, err := net.Dial("tcp", "127.0.0.1:9477"); err == nil {
		t.Error("the agent answers after its end")
	}
	if !strings.Contains(log.String(), `"level":"INFO","msg":"berth agent","version":"devel","node":"host-a"`) {
		t.Errorf("log:\n%s", log.String())
	}
}

func TestLog(t *testing.T) {
	var b bytes.Buffer
	log := newLog(&b, "warn", "text")
	log.Info("no")
	log.Warn("yes", "key", "a b")
	if got := b.String(); strings.Contains(got, "msg=no") || !strings.Contains(got, `level=WARN msg=yes key="a b"`) {
		t.Error(got)
	}
}
