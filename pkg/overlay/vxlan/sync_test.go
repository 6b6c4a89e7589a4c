package vxlan

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/nstest"
)

func TestRepair(t *testing.T) {
	me := alone(t)
	h := open(t)
	p := plane(t, h, me.device(), node{id: 2}.peer(), node{id: 3}.peer())
	mustSync(t, p)
	n := watch(t, h)
	want := resting(t)
	if c := mustSync(t, p); c.Total() != 0 {
		t.Fatalf("a second sync changed %s", c)
	}
	for _, d := range damages {
		if !repair(t, p, n, d.cmd, d.why, want) {
			t.Logf("this was: %s", d.name) // a subtest would be in another namespace
		}
	}
}

func repair(t *testing.T, p *Plane, n *news, cmd, why, want string) (good bool) {
	good = true
	bad := func(format string, args ...any) {
		t.Helper()
		t.Errorf(format, args...)
		good = false
	}
	if s := n.take(); s != "" {
		bad("before the damage the watcher said %q", s)
	}
	if out, err := nstest.Output("sh", "-ec", cmd); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if why != "" {
		if said := n.wait(); !strings.Contains(said, why) {
			bad("the watcher said %q, want %q", said, why)
		}
	}
	if state(t) == want {
		bad("no damage was done")
	}
	c := mustSync(t, p)
	if c.Total() == 0 {
		bad("sync counted nothing")
	}
	if got := settled(t, want); got != want {
		bad("after sync (%s):\n%s", c, diff(want, got))
	}
	if c := mustSync(t, p); c.Total() != 0 {
		bad("a second sync changed %s", c)
	}
	time.Sleep(5 * time.Millisecond)
	n.take() // what was on the way as the first sync ran
	return good
}

// diff has the lines that only one side has.
func diff(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	var s []string
	for _, l := range w {
		if !slices.Contains(g, l) {
			s = append(s, "- "+l)
		}
	}
	for _, l := range g {
		if !slices.Contains(w, l) {
			s = append(s, "+ "+l)
		}
	}
	return strings.Join(s, "\n")
}
