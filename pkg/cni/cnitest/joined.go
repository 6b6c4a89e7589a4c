// Package cnitest is the suite that every mode passes which joins a namespace
// instead of making an interface.
package cnitest

import (
	"os"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/steptest"
)

// Joined is such a mode.
type Joined struct {
	Plugin string
	Conf   string            // its configuration, of network n
	Config func() cni.Joiner // an empty one
	// Prepare, if set, puts on record what the mode needs.
	Prepare func(*testing.T, *attach.Store)
	// Harm takes away what ADD did to the container's path.
	Harm func(t *testing.T, netns string)
}

// add adds a container; spoil, if not nil, changes its steps.
func (m Joined) add(t *testing.T, s *attach.Store, netns string, spoil func([]attach.Step)) (*attach.Attachment, error) {
	t.Helper()
	c := m.Config()
	r, err := cni.NewRequest(&cni.CmdArgs{ContainerID: "c1", IfName: "eth0", Netns: netns, StdinData: []byte(m.Conf)}, c)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := r.Plan()
	if err != nil {
		t.Fatal(err)
	}
	a := &attach.Attachment{Key: attach.Key{Network: "n", Container: "c1", IfName: "eth0"}, Plugin: m.Plugin, Netns: netns}
	if err := c.Join(t.Context(), r, s, &attach.Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	return a, s.Add(t.Context(), &attach.Adding{Attachment: a}, func(*attach.Tx) error {
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

// FaultLeavesNothing: whichever way the step fails, the kernel and the store are as
// before; after that an ADD works, and reload repairs what Harm took away.
func (m Joined) FaultLeavesNothing(t *testing.T) {
	t.Helper()
	nstest.Host(t)
	t.Setenv(attach.DirEnv, t.TempDir())
	s := attach.New("", cni.Decode)
	netns := nstest.Namespace(t)
	if m.Prepare != nil {
		m.Prepare(t, s)
	}
	before := state(t, s, netns)
	for _, panics := range []bool{false, true} {
		_, err := m.add(t, s, netns, func(steps []attach.Step) { steps[0] = steptest.Faulty{Step: steps[0], Panics: panics} })
		if err == nil || !strings.Contains(err.Error(), "fault") {
			t.Fatal(err)
		}
		if after := state(t, s, netns); after != before {
			t.Errorf("panics %v: %s, want %s", panics, after, before)
		}
	}
	a, err := m.add(t, s, netns, nil)
	if err != nil {
		t.Fatal(err)
	}
	if after := state(t, s, netns); after == before {
		t.Error("ADD changed nothing that the test can see")
	}
	m.Harm(t, netns)
	if attach.Check(t.Context(), a) == nil {
		t.Error("Check sees no harm")
	}
	if err := attach.Reload(t.Context(), &attach.Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	if err := attach.Check(t.Context(), a); err != nil {
		t.Error(err)
	}
}
