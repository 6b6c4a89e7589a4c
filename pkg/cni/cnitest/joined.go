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
	Mode cni.Mode
	Conf string // its configuration, of network n
	// Prepare, if set, puts on record what the mode needs.
	Prepare func(*testing.T, *attach.Store)
	// Harm takes away what ADD did to the container's path.
	Harm func(t *testing.T, netns string)
}

// add adds a container, with its first step faulty if f says so.
func (m Joined) add(t *testing.T, s *attach.Store, netns string, f steptest.Fault) (*attach.Attachment, error) {
	t.Helper()
	a := adding(t, m.Mode, &cni.CmdArgs{ContainerID: "c1", IfName: "eth0", Netns: netns, StdinData: []byte(m.Conf)})
	steptest.Spoil(a.Steps, 0, f)
	return a.Attachment, s.Add(t.Context(), a)
}

// adding plans an ADD, as the plugin does.
func adding(t *testing.T, m cni.Mode, args *cni.CmdArgs) *attach.Adding {
	t.Helper()
	r, err := m.Request(t.Context(), args)
	if err != nil {
		t.Fatal(err)
	}
	a, err := r.Adding()
	if err != nil {
		t.Fatal(err)
	}
	return a
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
	for _, fault := range steptest.Faults {
		_, err := m.add(t, s, netns, fault)
		if err == nil || !strings.Contains(err.Error(), "fault") {
			t.Fatal(err)
		}
		if after := state(t, s, netns); after != before {
			t.Errorf("%s: %s, want %s", fault, after, before)
		}
	}
	a, err := m.add(t, s, netns, steptest.None)
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
