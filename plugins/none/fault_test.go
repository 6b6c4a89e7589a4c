package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// faulty is a step that fails before the real work, or panics after it.
type faulty struct {
	attach.Step
	panics bool
}

var errFault = errors.New("fault")

func (f faulty) MarshalJSON() ([]byte, error) { return json.Marshal(f.Step) }

func (f faulty) Add(ctx context.Context, a *attach.Attachment) error {
	if !f.panics {
		return errFault
	}
	if err := f.Step.Add(ctx, a); err != nil {
		return err
	}
	panic(errFault)
}

// add adds a container; spoil, if not nil, changes its steps.
func add(t *testing.T, s *attach.Store, netns string, spoil func([]attach.Step)) (*attach.Attachment, error) {
	t.Helper()
	c := &config{}
	r, err := cni.NewRequest(&cni.CmdArgs{ContainerID: "c1", IfName: "eth0", Netns: netns, StdinData: []byte(conf)}, c)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := r.Plan()
	if err != nil {
		t.Fatal(err)
	}
	a := &attach.Attachment{Key: attach.Key{Network: "n", Container: "c1", IfName: "eth0"}, Plugin: "none", Netns: netns}
	if err := c.Join(t.Context(), r, s, a); err != nil {
		t.Fatal(err)
	}
	return a, s.Add(t.Context(), a, func(*attach.Tx) error {
		a.Steps = plan.Steps
		if spoil != nil {
			spoil(a.Steps)
		}
		return nil
	})
}

// state is what the container's path leads to, and the records.
func state(t *testing.T, s *attach.Store, netns string) string {
	t.Helper()
	var words []string
	nstest.In(t, netns, func() {
		ns, err := os.Readlink("/proc/thread-self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		words = append(words, ns)
	})
	all, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		words = append(words, a.Key.String())
	}
	return strings.Join(words, ", ")
}

// Whichever step fails, and however, the kernel and the store are as before; after
// that an ADD works, and reload repairs what somebody took away.
func TestFaultLeavesNothing(t *testing.T) {
	nstest.Host(t)
	t.Setenv(attach.DirEnv, t.TempDir())
	s := attach.New("", cni.Decode)
	netns := nstest.Namespace(t)
	prepare(t, s)
	before := state(t, s, netns)
	for _, panics := range []bool{false, true} {
		_, err := add(t, s, netns, func(steps []attach.Step) { steps[0] = faulty{steps[0], panics} })
		if err == nil || !strings.Contains(err.Error(), "fault") {
			t.Fatal(err)
		}
		if after := state(t, s, netns); after != before {
			t.Errorf("panics %v: %s, want %s", panics, after, before)
		}
	}
	a, err := add(t, s, netns, nil)
	if err != nil {
		t.Fatal(err)
	}
	if after := state(t, s, netns); after == before {
		t.Error("ADD changed nothing that the test can see")
	}
	harm(t, netns)
	if attach.Check(t.Context(), a) == nil {
		t.Error("Check sees no harm")
	}
	if err := attach.Reload(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if err := attach.Check(t.Context(), a); err != nil {
		t.Error(err)
	}
}

const conf = `{"cniVersion": "1.1.0", "name": "n", "type": "none"}`

func prepare(*testing.T, *attach.Store) {}

func harm(t *testing.T, netns string) {
	nstest.In(t, netns, func() {
		if err := nstest.Run("ip", "link", "set", "lo", "down"); err != nil {
			t.Fatal(err)
		}
	})
}
