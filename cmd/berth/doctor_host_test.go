package main

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/host/hosttest"
	"github.com/berth-cni/berth/pkg/overlay"
)

// testHost is a host with containers, on which the program runs.
type testHost struct{ *hosttest.Host }

func newHost(t *testing.T) *testHost { return &testHost{hosttest.New(t)} }

// berth runs the program on the host.
func (w *testHost) berth(args ...string) (code int, out string) {
	w.Helper()
	config := filepath.Join(w.Dir, "empty.yaml")
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		w.Fatal(err)
	}
	var b bytes.Buffer
	p := &program{in: strings.NewReader(""), out: &b, err: &b, now: func() time.Time { return noon },
		open: func(*settings, *slog.Logger) (overlay.Store, error) { return nil, errors.New("this test has no store") }}
	code = run(w.Context(), p, append(args, "--config", config)...)
	return code, b.String()
}

// TestDoctorJSON is what programs read.
func TestDoctorJSON(t *testing.T) {
	w := newHost(t)
	w.Sh("ip route add 10.81.0.128/25 dev wire && echo 0 > /proc/sys/net/ipv4/ip_forward")
	code, out := w.berth("doctor", "--format", "json", "--listen", "127.0.0.1:1", "--data-dir", "/nowhere", "--fix")
	if code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	golden(t, "doctor.json", out)
}

// TestRepair is what the commands that look after a host write.
func TestRepair(t *testing.T) {
	w := newHost(t)
	for _, c := range []string{"reload", "gc", "doctor --listen 127.0.0.1:1"} {
		if code, out := w.berth(strings.Fields(c)...); code != exitDone || strings.HasPrefix(c, "doctor") != (out != "") {
			t.Errorf("%s on a healthy host: %d, %s", c, code, out)
		}
	}
	gone := w.Container(3, false)
	w.Sh("ip netns del " + filepath.Base(gone.Netns))
	first := attach.Key{Network: "web", Container: "c1", IfName: "eth0"}
	w.Sh("ip link del " + first.HostIfName() + "; nft flush ruleset")
	why := "its namespace " + gone.Netns + " is gone"
	for _, c := range []struct {
		args  string
		code  int
		wants []string
	}{
		{"doctor --listen 127.0.0.1:1", exitFailed, []string{"BAD   records have a container", "mend: berth gc"}},
		{"gc --dry-run", exitDone, []string{"would remove container c3 (network web, eth0): " + why + "\n"}},
		{"reload web", exitDone, []string{"left:     container c3 (network web, eth0): " + why + "\n", "put back: container c1 (network web, eth0): ",
			"put back: the firewall, for 2 containers: "}},
		{"gc", exitDone, []string{"removed container c3 (network web, eth0): " + why + "\n"}},
		{"doctor --listen 127.0.0.1:1", exitDone, []string{"ok    records have a container"}},
		{"reload nobody", exitFailed, []string{"berth: no container of this host is on nobody"}},
	} {
		code, out := w.berth(strings.Fields(c.args)...)
		missing := func() []string {
			return slices.DeleteFunc(slices.Clone(c.wants), func(want string) bool { return code == c.code && strings.Contains(out, want) })
		}
		for range 50 { // the kernel ends the namespace
			if len(missing()) == 0 || !strings.HasPrefix(c.args, "doctor") {
				break
			}
			time.Sleep(100 * time.Millisecond)
			code, out = w.berth(strings.Fields(c.args)...)
		}
		if m := missing(); len(m) > 0 {
			t.Errorf("%s: %d, want %d and %q in\n%s", c.args, code, c.code, m, out)
		}
	}
	w.Sh("ip link del " + first.HostIfName() + " && ip netns exec $(basename " + w.netns(first) + ") ip link add eth0 type bridge") // in the way
	if code, out := w.berth("reload"); code != exitFailed || !strings.Contains(out, "NOT put back: container c1 (network web, eth0): ") || !strings.Contains(out, "berth: 1 could not be put back") {
		t.Errorf("%d, %s", code, out)
	}
}

func (w *testHost) netns(k attach.Key) string {
	w.Helper()
	a, err := w.Store.Get(w.Context(), k)
	if err != nil {
		w.Fatal(err)
	}
	return a.Netns
}
