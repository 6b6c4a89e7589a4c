package cni

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"
)

var t0 = context.Background()

// buggyEnv has the test binary be a plugin with a bug.
const buggyEnv = "BERTH_CNI_TEST_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(buggyEnv) != "" {
		Main(Mode{Name: "buggy", Config: func() Config { return &buggy{} }})
	}
	nstest.Main(m)
}

type buggy struct{ Conf }

// Plan has the bug that the environment names.
func (*buggy) Plan(r *Request) ([]attach.Step, error) {
	var none []attach.Step
	if os.Getenv(buggyEnv) == "index" {
		return none[len(none):][3:], nil
	}
	f, err := os.CreateTemp("", "cut") // as a database that somebody cuts off
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	mapped, err := unix.Mmap(int(f.Fd()), 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	r.Refuse("bug", mapped[0], "want a fault")
	return nil, nil
}

// TestPanic: what a runtime, and whoever reads its log, gets of a bug is one line. The
// stack is for those who ask for it.
func TestPanic(t *testing.T) {
	for bug, want := range map[string]string{"index": "slice bounds out of range", "fault": "invalid memory address"} {
		for _, stack := range []string{"", "1"} {
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), buggyEnv+"="+bug, "CNI_COMMAND=STATUS", attach.StackEnv+"="+stack)
			cmd.Stdin = strings.NewReader(`{"cniVersion": "1.1.0", "name": "n", "type": "buggy"}`)
			var stderr strings.Builder
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err == nil {
				t.Fatalf("%s", out)
			}
			for _, want := range []string{"bug in buggy: runtime error: " + want, "verbs_test.go:"} {
				if !strings.Contains(string(out), want) {
					t.Errorf("%s, want %q", out, want)
				}
			}
			if strings.Contains(string(out), "goroutine") || strings.Contains(string(out), `\n`) {
				t.Errorf("more than one line: %s", out)
			}
			if got := strings.Contains(stderr.String(), "goroutine"); got != (stack != "") {
				t.Errorf("%s=%q: stderr %q", attach.StackEnv, stack, stderr.String())
			}
		}
	}
}

func TestCheckVersion(t *testing.T) {
	for _, c := range []struct {
		version, since string
		bad            bool
	}{
		{"1.1.0", "1.1.0", false}, {"1.0.0", "1.1.0", true}, {"0.4.0", "0.4.0", false}, {"0.3.1", "0.4.0", true},
		{"", "0.1.0", false}, {"", "0.4.0", true}, {"2.0.0", "0.1.0", true}, {"1.1", "0.1.0", true},
	} {
		err := checkVersion(c.version, c.since)
		if (err != nil) != c.bad || err != nil && code(err).Code != types.ErrIncompatibleCNIVersion {
			t.Errorf("%q since %s: %v", c.version, c.since, err)
		}
	}
}

func TestRoles(t *testing.T) {
	for want, m := range map[string]Mode{"[]": {}, "[ipam]": {Leases: true}, "[chain ]": {Chains: true}, "none": {Unrecorded: true}} {
		got := fmt.Sprint(m.roles())
		if m.Unrecorded {
			got = map[int]string{0: "none"}[len(m.roles())]
		}
		if got != want {
			t.Errorf("%+v: %s", m, got)
		}
	}
}

// TestValid: no list is not an empty list.
func TestValid(t *testing.T) {
	for conf, want := range map[string]string{
		`{"name": "n"}`: "map[] false",
		`{"name": "n", "cni.dev/valid-attachments": null}`:                                         "map[] true",
		`{"name": "n", "cni.dev/attachments": [{"containerID": "c", "ifname": "eth0"}]}`:           "map[{c eth0}:true] true",
		`{"name": "n", "cni.dev/valid-attachments": [], "cni.dev/attachments": [{"ifname": "e"}]}`: "map[] true",
	} {
		valid, given, err := request(t, conf, "").valid()
		if got := fmt.Sprint(valid, given); got != want || err != nil {
			t.Errorf("%s: %s, %v; want %s", conf, got, err, want)
		}
	}
	if _, _, err := request(t, `{"name": "n", "cni.dev/valid-attachments": 5}`, "").valid(); code(err).Code != types.ErrDecodingFailure {
		t.Errorf("a number: %v", err)
	}
}

func TestUnavailable(t *testing.T) {
	if err := unavailable(nil); err != nil {
		t.Error(err)
	}
	if got := code(unavailable(errors.New("no"))).Code; got != types.ErrPluginNotAvailable {
		t.Errorf("code %d", got)
	}
	later := fmt.Errorf("of the delegate: %w", types.NewError(types.ErrLimitedConnectivity, "x", ""))
	if got := code(unavailable(later)).Code; got != types.ErrLimitedConnectivity {
		t.Errorf("code %d", got)
	}
}
