package static

import (
	"bufio"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

// example is the file of the package's comment.
func example(t testing.TB) string {
	t.Helper()
	f, err := os.Open("static.go")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b strings.Builder
	for lines := bufio.NewScanner(f); lines.Scan() && strings.HasPrefix(lines.Text(), "//"); {
		if line, ok := strings.CutPrefix(lines.Text(), "//\t"); ok {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func store(t testing.TB, text string) *Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "peers.yaml")
	if text != "" {
		write(t, path, text)
	}
	s, err := New(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestExample(t *testing.T) {
	state, err := parse([]byte(example(t)))
	if err != nil {
		t.Fatal(err)
	}
	blue := state.Networks["blue"]
	if err := blue.Validate(); err != nil || blue.VNI != 4097 || blue.MTU != 1400 || blue.ID == "" || blue.Labels["team"] != "lab" {
		t.Errorf("blue: %+v, %v", blue, err)
	}
	if n := state.Nodes["host2"]; n.MTU != 1500 || n.Address != netip.MustParseAddr("192.0.2.2") || n.Token == state.Nodes["host1"].Token {
		t.Errorf("host2: %+v", n)
	}
	if got := state.BlocksOf("blue", "host1"); len(got) != 2 || got[0].String() != "10.42.1.0/24" {
		t.Errorf("blocks of host1: %v", got)
	}
}

func TestWrong(t *testing.T) {
	const net = "networks:\n  blue: {subnets: [10.42.0.0/16], vni: 7}\n"
	for _, c := range []struct{ name, text, want string }{
		{"no YAML", "networks: [\n", "line 1"},
		{"unknown key", net + "nodes:\n  a: {adress: 192.0.2.1}\n", "line 4: field adress not found"},
		{"twice", net + "nodes:\n  a: {address: 192.0.2.1}\n  a: {address: 192.0.2.2}\n", "line 5"},
		{"no address", net + "nodes:\n  a: {}\n", "line 4: nodes.a: address"},
		{"text for an address", net + "nodes:\n  a:\n    address: host\n", "host"},
		{"no VNI", "networks:\n  x:\n    subnets: [10.0.0.0/8]\n", "line 2: networks.x: vni: 0"},
		{"same VNI", net + "  red: {subnets: [10.43.0.0/16], vni: 7}\n", "line 3: networks.red: vni: 7"},
		{"overlap", net + "  red: {subnets: [10.42.8.0/24], vni: 8}\n", "line 3: networks.red: subnets"},
		{"same address", net + "nodes:\n  a: {address: 192.0.2.1}\n  b: {address: 192.0.2.1}\n", "line 5: nodes.b: address: 192.0.2.1"},
		{"no such network", net + "nodes:\n  a:\n    address: 192.0.2.1\n    blocks:\n      red: [10.42.1.0/24]\n", "line 7: nodes.a.blocks.red"},
		{"not of its length", net + "nodes:\n  a:\n    address: 192.0.2.1\n    blocks:\n      blue: [10.42.1.0/25]\n", "line 7"},
		{"taken", net + "nodes:\n  a: {address: 192.0.2.1, blocks: {blue: [10.42.1.0/24]}}\n  b:\n    address: 192.0.2.2\n    blocks: {blue: [10.42.1.0/24]}\n", `line 7: nodes.b.blocks.blue: 10.42.1.0/24: is node "a"'s`},
		{"a path", "nodes:\n  ../a: {address: 192.0.2.1}\n", "line 2: nodes.../a: name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
	if state, err := parse(nil); err != nil || len(state.Nodes) != 0 {
		t.Errorf("an empty file: %v", err)
	}
}

func TestStore(t *testing.T) {
	s := store(t, example(t))
	overlaytest.ConformReadOnly(t, s, overlaytest.ReadOnly{
		Node:  overlay.Node{Name: "host1", Token: "own", Address: netip.MustParseAddr("192.0.2.1"), MTU: 1500},
		Mine:  overlay.BlockKey{Network: "blue", Prefix: netip.MustParsePrefix("10.42.1.0/24")},
		Taken: overlay.BlockKey{Network: "blue", Prefix: netip.MustParsePrefix("10.42.2.0/24")},
		Free:  overlay.BlockKey{Network: "blue", Prefix: netip.MustParsePrefix("10.42.3.0/24")},
	})
}

// TestWatch: a file that is missing, wrong, mended, and changed.
func TestWatch(t *testing.T) {
	s := store(t, "")
	f := overlaytest.Follow(t, s, false)
	last := func(ok func(overlay.Update) bool) func([]overlay.Update) bool {
		return func(u []overlay.Update) bool { return len(u) > 0 && ok(u[len(u)-1]) }
	}
	wait := func(what string, ok func(overlay.Update) bool) {
		t.Helper()
		f.WaitUpdates(t, overlaytest.Patience, what, last(ok))
	}
	wait("the file missing", func(u overlay.Update) bool { return errors.Is(u.Err, os.ErrNotExist) })
	text := example(t)
	write(t, s.path, text)
	wait("the first state", func(u overlay.Update) bool { return u.Full && len(u.Nodes) == 2 && len(u.Blocks) == 3 })
	f.WaitSame(t, s)
	host1 := overlay.Node{Name: "host1", Token: "own", Address: netip.MustParseAddr("192.0.2.1"), MTU: 1500}
	lost := make(chan error, 1)
	if err := s.Register(context.Background(), host1, "boot", false, func(err error) { lost <- err }); err != nil {
		t.Fatal(err)
	}
	wait("its token", func(u overlay.Update) bool { return u.Full && u.Nodes[0].Token == "own" })
	write(t, s.path, text+"  host3: {}\n")
	wait("what is wrong", func(u overlay.Update) bool { return u.Err != nil && strings.Contains(u.Err.Error(), "line 22") })
	write(t, s.path, text)
	wait("it mended", func(u overlay.Update) bool { return u.Err == nil && !u.Full })
	write(t, s.path, strings.ReplaceAll(text, "host1", "host9"))
	wait("another host", func(u overlay.Update) bool { return u.Full && u.Nodes[1].Name == "host9" })
	select {
	case err := <-lost:
		if !errors.Is(err, overlay.ErrRemoved) {
			t.Errorf("lost: %v", err)
		}
	case <-time.After(overlaytest.Patience):
		t.Error("the host was not told that it is not in the file any more")
	}
}

func TestClose(t *testing.T) {
	before := runtime.NumGoroutine()
	s := store(t, example(t))
	f := overlaytest.Follow(t, s, true)
	node := overlay.Node{Name: "host1", Address: netip.MustParseAddr("192.0.2.1")}
	if err := s.Register(context.Background(), node, "boot", false, overlaytest.NotLost(t)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	f.Stop()
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines, before %d", runtime.NumGoroutine(), before)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(example(f)))
	f.Fuzz(func(t *testing.T, data []byte) {
		state, err := parse(data)
		if err != nil {
			return
		}
		for _, n := range state.Networks {
			if err := n.Validate(); err != nil {
				t.Error(err)
			}
		}
		for k, b := range state.Blocks {
			if n := state.Networks[k.Network]; !n.Contains(k.Prefix) || state.Nodes[b.Node].Token != b.Token {
				t.Errorf("block %v", b)
			}
		}
	})
}
