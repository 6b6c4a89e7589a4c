package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/berth-cni/berth/integration/sandbox"
	"github.com/berth-cni/berth/integration/screen"
	"golang.org/x/sys/unix"
)

// asDemo has the test binary be the demo.
const asDemo = "BERTH_TEST_DEMO_OVERLAY"

func TestMain(m *testing.M) {
	runtime.LockOSThread() // as main does
	if os.Getenv(asDemo) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// brief is enough to see that all works, beside other tests.
var brief = effort{rounds: 1, run: 50 * time.Millisecond, least: 0.1, most: 10}

var colours = regexp.MustCompile("\x1b\\[[0-9;]*m")

func binaries(t *testing.T) string {
	t.Helper()
	bin, err := sandbox.Binaries()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("BERTH_BIN", bin) // which the demo sets
	return bin
}

// TestDemo runs the demo as it is shown, and looks at it as a terminal would.
func TestDemo(t *testing.T) {
	var out bytes.Buffer
	if err := run(&out, true, binaries(t), brief); err != nil {
		t.Errorf("%v:\n%s", err, &out)
	}
	for line := range strings.Lines(colours.ReplaceAllString(out.String(), "")) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// TestSpoiled has a host hide its containers' addresses from the others: the claim that
// there is no NAT in between is the one that fails, and decides the end.
func TestSpoiled(t *testing.T) {
	if err := prepare(binaries(t)); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	l, err := newLab(screen.New(&out, false), brief)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	steps := l.steps()
	l.play(steps[0])
	if err := l.oslo.Script(`
		nft add table ip spoiled
		nft add chain ip spoiled out { type nat hook postrouting priority 90 ; }
		nft add rule ip spoiled out oifname vxlan* masquerade`); err != nil {
		t.Fatal(err)
	}
	l.play(steps[1])
	err = l.Summary()
	if got := strings.Count(out.String(), " ✗ "); err == nil || !strings.Contains(out.String(), "✗ 24 TCP connections") {
		t.Errorf("%v, %d crosses:\n%s", err, got, &out)
	}
}

// TestMissing has no programs to show.
func TestMissing(t *testing.T) {
	if err := run(&bytes.Buffer{}, false, t.TempDir(), brief); err == nil {
		t.Error("no programs, no error")
	}
}

// TestInhabited: a namespace that is held is found.
func TestInhabited(t *testing.T) {
	h, err := sandbox.New()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	made := map[uint64]string{}
	if err := h.Do(func() error {
		inode, err := namespace("thread-self")
		made[inode] = "host"
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(inhabited(made)); got != "[host]" {
		t.Errorf("held: %s", got)
	}
	h.Close()
	if _, err := until(settleTime, func() error {
		if left := inhabited(made); left != nil {
			return fmt.Errorf("in use: %v", left)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestInterrupted sends SIGINT to the demo while agents and a store run: none is left.
func TestInterrupted(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-bin", binaries(t))
	cmd.Env = append(os.Environ(), asDemo+"=1")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	seen := ""
	for b := make([]byte, 4096); !strings.Contains(seen, "ping -c1"); {
		n, err := stdout.Read(b)
		if seen += string(b[:n]); err != nil {
			t.Fatalf("%v:\n%s", err, seen)
		}
	}
	var pids []string
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", cmd.Process.Pid))
	for _, path := range lists {
		list, _ := os.ReadFile(path)
		pids = append(pids, strings.Fields(string(list))...)
	}
	if len(pids) < 4 { // three agents and etcd
		t.Errorf("children: %v", pids)
	}
	_ = cmd.Process.Signal(unix.SIGINT)
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("interrupted: %v", err)
	}
	for _, pid := range pids {
		if _, err := until(settleTime, func() error { return ended(pid) }); err != nil {
			t.Error(err)
		}
	}
}

// ended returns nil when a process is no more, or waits for its new parent.
func ended(pid string) error {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	_, state, _ := strings.Cut(string(stat), ") ")
	if err != nil || strings.HasPrefix(state, "Z") {
		return nil
	}
	return fmt.Errorf("process %s runs: %s", pid, stat)
}
