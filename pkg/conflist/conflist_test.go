package conflist

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("not as in %s (-update writes it):\n%s", path, got)
	}
}

func put(t *testing.T, d Dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(string(d), name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Files of all authors are listed, in the runtimes' order; what cannot be read is said
// beside.
func TestList(t *testing.T) {
	d := Dir(t.TempDir())
	put(t, d, "30-single.conf", `{"cniVersion": "0.4.0", "name": "single", "type": "ptp", "ipam": {"type": "host-local", "subnet": "10.1.2.3/24", "rangeStart": "10.1.2.9"}}`)
	put(t, d, "10-chain.conflist", `{"cniVersion": "1.0.0", "cniVersions": ["1.0.0", "1.1.0"], "name": "chain", "plugins": [
		{"type": "bridge", "ipam": {"ranges": [[{"subnet": "10.3.0.0/16"}, {"subnet": "10.4.0.0/16"}], [{"subnet": "fd00::/64"}]]}}, {"type": "portmap"}]}`)
	put(t, d, "20-static.conflist", `{"name": "static", "plugins": [{"type": "macvlan", "master": "eth0", "ipam": {"type": "static", "addresses": [{"address": "10.5.0.7/16"}]}}]}`)
	put(t, d, "25-strange.json", `{"name": "strange", "plugins": [{"type": "calico", "ipam": {"type": "calico-ipam", "subnet": "usePodCidr", "ranges": 5}}]}`)
	put(t, d, "40-broken.conflist", `{"name": "bro`)
	put(t, d, "41-empty.conflist", `{"name": "empty", "plugins": []}`)
	put(t, d, "42-again.conflist", `{"name": "chain", "plugins": [{"type": "bridge"}]}`)
	put(t, d, "43-mistyped.conflist", `{"name": "x", "plugins": [{"type": 5}]}`)
	put(t, d, "44-mistyped.conflist", `{"name": "y", "plugins": [{"type": "bridge", "mtu": "1500", "isolated": true}]}`)
	put(t, d, "26-other.conflist", `{"name": "other", "plugins": [{"type": "ptp", "mtu": "1500", "isolated": true}]}`)
	put(t, d, "README", `no network`)
	put(t, d, ".berth.new", `{"half`)
	all, err := d.List()
	var got []string
	for _, f := range all {
		var subnets []string
		for _, s := range f.Taken() {
			subnets = append(subnets, s.Prefix.String())
		}
		got = append(got, fmt.Sprint(f.Name, " ", f.Driver(), " ", f.Link(), " ", subnets, " ", f.Foreign(), " ", f.Versions))
	}
	want := []string{
		"chain bridge cni0 [10.3.0.0/16 10.4.0.0/16 fd00::/64] [portmap] [1.0.0 1.1.0]",
		"static macvlan eth0 [10.5.0.0/16] [] []",
		"strange calico  [] [calico] []",
		"other ptp  [] [ptp] []",
		"single ptp  [10.1.2.0/24] [ptp] [0.4.0]",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got:\n%s", strings.Join(got, "\n"))
	}
	for _, want := range []string{"40-broken.conflist: is no CNI configuration", "41-empty.conflist: is no CNI configuration: want a name",
		"42-again.conflist: network chain is in ", "43-mistyped.conflist: is no CNI configuration: plugins[0].type: 5: want a string",
		`44-mistyped.conflist: is no CNI configuration: plugins[0].mtu: "1500": want a whole number`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	if all, err := Dir(filepath.Join(string(d), "nowhere")).List(); all != nil || err != nil {
		t.Errorf("%v, %v", all, err)
	}
	if _, err := Dir(filepath.Join(string(d), "README")).List(); err == nil {
		t.Error("a file was a folder")
	}
}

// TestSlips: what the plugins say of their keys, and nothing of other suites' plugins.
func TestSlips(t *testing.T) {
	f, err := Parse([]byte(`{"name": "a", "plugins": [
		{"type": "bridge", "isGatway": true, "isolated": true, "ipam": {"subnet": "10.3.0.0/16", "dataDir": "/x"}},
		{"type": "macvlan", "ipam": {"type": "host-local", "dataDir": "/x"}}, {"type": "portmap", "isolated": true, "dataDir": "/x"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"bridge.isGatway: true: is not known, did you mean isGateway?", "bridge.isolated: true: ", `bridge.ipam.dataDir: "/x": `}
	if got := f.Slips(); !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("%q, want %q", got, want)
	}
}

// FuzzDecode: no file in the folder is more than an error.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"name": "a", "plugins": [{"type": "bridge", "ipam": {"ranges": [[{"subnet": "10.3.0.0/16", "rangeStart": "x"}]]}}]}`))
	f.Add([]byte(`{"name": "a", "type": "x", "ipam": {"addresses": [{"address": "::/0"}], "subnet": "0.0.0.0/33"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if file, err := decode(data); err == nil {
			file.Driver()
			file.Foreign()
			file.Link()
			file.Taken()
		}
	})
}

// TestOwnNames: a plugin's second name means the same plugin, in a file of that name.
func TestOwnNames(t *testing.T) {
	f, err := Parse([]byte(`{"name": "pods", "plugins": [{"type": "berth-bridge", "bridge": "br0", "isGatway": true}, {"type": "berth-loopback"}, {"type": "berth-other"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if f.Driver() != Bridge || f.Plugins[0].Binary != "berth-bridge" || f.Link() != "br0" || len(f.Slips()) != 1 {
		t.Errorf("%q of %q on %q, slips %q", f.Driver(), f.Plugins[0].Binary, f.Link(), f.Slips())
	}
	if got, want := f.Foreign(), []string{"loopback", "berth-other"}; !slices.Equal(got, want) {
		t.Errorf("types that are no driver: %q, want %q", got, want)
	}
	if _, err := Parse([]byte(`{"name": "pods", "plugins": [{"type": "berth-vxlan-overlay", "names": "yes"}]}`)); err == nil {
		t.Error("a mistyped key of the overlay was taken")
	}
}

// Who reads while others write sees whole files only.
func TestNeverHalf(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "made"))
	long := []byte(`{"name": "n", "plugins": [{"type": "bridge", "bridge": "` + strings.Repeat("x", 1<<16) + `"}]}`)
	var writers sync.WaitGroup
	for range 2 {
		writers.Go(func() {
			for range 20 {
				unlock, err := d.Lock(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if err := d.Write("n", long); err != nil {
					t.Error(err)
				}
				unlock()
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for seen := 0; ; {
		all, err := d.List()
		if err != nil {
			t.Fatal(err)
		}
		seen += len(all)
		select {
		case <-done:
			if seen == 0 {
				t.Error("saw nothing")
			}
			if info, err := os.Stat(d.Path("n")); err != nil || info.Mode().Perm() != 0o644 {
				t.Errorf("%v, %v", info, err)
			}
			entries, _ := os.ReadDir(string(d))
			if len(entries) != 1 {
				t.Errorf("left: %v", entries)
			}
			return
		default:
		}
	}
}

func TestLock(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "made"))
	unlock, err := d.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := d.Lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	unlock()
	again, err := d.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestRemove(t *testing.T) {
	d := Dir(t.TempDir())
	put(t, d, "10-a.conflist", `{"name": "a", "plugins": [{"type": "bridge"}]}`)
	all, err := d.List()
	if err != nil {
		t.Fatal(err)
	}
	f := Find(all, "a")
	if f == nil || Find(all, "b") != nil {
		t.Fatal("Find")
	}
	if err := d.Remove(f); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(f); err == nil || !strings.Contains(err.Error(), "remove network a: ") {
		t.Errorf("again: %v", err)
	}
	if err := d.Restore(f); err != nil {
		t.Fatal(err)
	}
	if all, err := d.List(); err != nil || len(all) != 1 || all[0].Path != f.Path || string(all[0].Data) != string(f.Data) {
		t.Errorf("restored: %+v, %v", all, err)
	}
}

func TestLast(t *testing.T) {
	for prefix, want := range map[string]string{
		"10.0.0.0/8": "10.255.255.255", "10.1.2.0/23": "10.1.3.255", "10.1.2.4/32": "10.1.2.4", "0.0.0.0/0": "255.255.255.255",
		"fd00::/64": "fd00::ffff:ffff:ffff:ffff", "fd00::/127": "fd00::1",
	} {
		if got := last(netip.MustParsePrefix(prefix)); got.String() != want {
			t.Errorf("%s: %s, want %s", prefix, got, want)
		}
	}
}
