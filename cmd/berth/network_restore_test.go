package main

import (
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/replica"
)

// remembering is a data folder with all that the example store has.
func remembering(t *testing.T) string {
	t.Helper()
	dir, r := t.TempDir(), replica.New("host-a", func(string) bool { return true })
	s := example().state
	u := overlay.Update{Full: true}
	for _, n := range s.Networks {
		u.Networks = append(u.Networks, n)
	}
	for _, n := range s.Nodes {
		u.Nodes = append(u.Nodes, n)
	}
	for _, b := range s.Blocks {
		u.Blocks = append(u.Blocks, b)
	}
	r.State.Apply(u)
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestNetworkRestore(t *testing.T) {
	dir := remembering(t)
	empty := &memory{state: overlay.NewState()}
	want := "node host-a\nnode host-b\nblock blue 10.42.3.0/24 of host-a\nblock blue 10.42.9.0/24 of host-b\nnetwork blue\n"
	for _, c := range []struct {
		args     []string
		code     int
		out, err string
		networks int
	}{
		{[]string{"restore", "--dry-run", "blue"}, 0, "network blue\n", "", 0},
		{[]string{"restore", "none"}, exitFailed, "", "network none: this host remembers none", 0},
		{[]string{"restore", "blue"}, 0, "network blue\n", "", 1},
		{[]string{"restore", "blue"}, 0, "", "The store has all", 1},
		{[]string{"restore"}, 0, "network green\n", "", 2},
	} {
		code, out, errs := berthWith(t, empty, dir, append([]string{"network"}, c.args...)...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.err) || len(empty.state.Networks) != c.networks {
			t.Errorf("%v: %d\n%s%s%d networks", c.args, code, out, errs, len(empty.state.Networks))
		}
		if c.args[len(c.args)-1] == "blue" && strings.Contains(out, "green") {
			t.Errorf("%v: %s; want like\n%s", c.args, out, want)
		}
	}
	if len(empty.state.Nodes) != 3 || len(empty.state.Blocks) != 5 {
		t.Errorf("%d nodes, %d blocks", len(empty.state.Nodes), len(empty.state.Blocks))
	}
	if code, _, errs := berth(t, empty, "network", "restore"); code != exitFailed || !strings.Contains(errs, "remembers no network") {
		t.Errorf("a host that remembers nothing: %d, %s", code, errs)
	}
}

// What the store has lost can be removed where it is remembered, and then does not come
// again.
func TestRemoveLost(t *testing.T) {
	dir := remembering(t)
	empty := &memory{state: overlay.NewState()}
	for _, args := range [][]string{{"network", "rm", "blue"}, {"node", "rm", "host-c"}} {
		if code, out, errs := berthWith(t, empty, dir, args...); code != 0 {
			t.Errorf("%v: %d, %s%s", args, code, out, errs)
		}
	}
	r, ok := empty.state.NetworkRemoved("id-blue")
	if _, node := empty.state.NodeRemoved("host-c", "secret-host-c"); !ok || !node || r.By == "" || !r.At.Equal(noon) {
		t.Errorf("removed: %+v", empty.state.Removed)
	}
	code, out, errs := berthWith(t, empty, dir, "network", "restore")
	if code != exitFailed || strings.Contains(out, "network blue") || strings.Contains(out, "host-c") || !strings.Contains(errs, "network blue: was removed by") {
		t.Errorf("restored: %d, %s%s", code, out, errs)
	}
	if code, _, errs := berthWith(t, empty, dir, "network", "rm", "nothing"); code != exitFailed || !strings.Contains(errs, "not in the store") {
		t.Errorf("none: %d, %s", code, errs)
	}
}

// A network that the store has lost is made as it was, or not at all.
func TestCreateLost(t *testing.T) {
	nstest.Host(t)
	dir := remembering(t)
	empty := &memory{state: overlay.NewState()}
	create := func(flags ...string) (int, string, string) {
		return berthWith(t, empty, dir, append([]string{"network", "create", "--driver", "vxlan-overlay", "--no-names", "blue"}, flags...)...)
	}
	if code, _, errs := create("--subnet", "10.43.0.0/16"); code == 0 || !strings.Contains(errs, "berth network restore blue") {
		t.Errorf("another one: %d, %s", code, errs)
	}
	code, out, errs := create("--subnet", "10.42.0.0/16")
	if n := empty.state.Networks["blue"]; code != 0 || out != "blue\n" || n.ID != "id-blue" || len(empty.state.Blocks) != 3 {
		t.Errorf("the same: %d, %s%s%+v", code, out, errs, n)
	}
}
