// Package pkg_test holds the direction of the imports: a row of the design's
// layers imports only rows below it.
package pkg_test

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/berth-cni/berth/"

// layers are the rows, lowest first. Rooms of one row do not import each other; the
// packages of one room may.
var layers = [][]string{
	{"pkg/attach", "pkg/internal"},
	{"pkg/link", "pkg/firewall", "pkg/ipam", "pkg/names"},
	{"pkg/cni", "pkg/overlay"},
	{"pkg/conflist", "pkg/install"},
	{"pkg/host", "pkg/rebuild"},
	{"pkg/inspect"},
	{"pkg/network", "pkg/graph", "pkg/doctor", "pkg/agent", "pkg/trace"},
	{"pkg/connect", "pkg/page"},
	{"plugins", "cmd"},
}

// forTests are packages of tests alone.
var forTests = []string{"pkg/nstest", "pkg/steptest"}

// only says who may import a library: what speaks to the kernel or to a store is
// in one place.
var only = map[string][]string{
	"github.com/vishvananda/netlink":         {},
	"github.com/mdlayher/netlink":            {},
	"github.com/fsnotify/fsnotify":           {"pkg/internal/filewatch"},
	"github.com/safchain/ethtool":            {"pkg/overlay/vxlan"},
	"github.com/containernetworking/plugins": {}, // for tests alone
	"os/exec":                                {"pkg/firewall", "pkg/internal/xtables", "pkg/ipam", "pkg/names", "pkg/connect", "cmd"},
	"github.com/google/nftables":             {"pkg/firewall", "pkg/internal/nftnl", "pkg/trace"},
	"github.com/coreos/go-iptables":          {"pkg/firewall", "pkg/internal/xtables"},
	"go.etcd.io/bbolt":                       {"pkg/attach"},
	"go.etcd.io/etcd":                        {"pkg/overlay"},
	"k8s.io":                                 {"pkg/overlay/kubernetes/client"},
	"golang.zx2c4.com":                       {"pkg/overlay/wireguard"},
	"github.com/containernetworking/cni":     {"pkg/cni", "pkg/ipam", "pkg/connect", "plugins", "cmd"},
}

// heavy is what no plugin links: it costs start-up time.
var heavy = []string{"net/http", "log/slog", "crypto", "google.golang.org/grpc", "go.opentelemetry.io", "go.etcd.io/etcd", "k8s.io", "golang.zx2c4.com",
	"github.com/containernetworking/cni/pkg/invoke"}

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", module+"...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 5 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}

// row is the layer of a package path within the module; -1 for none.
func row(path string) int {
	return slices.IndexFunc(layers, func(l []string) bool {
		return slices.ContainsFunc(l, func(dir string) bool { return within(path, dir) })
	})
}

// room is the entry of a layer that a package is in: pkg/overlay of
// pkg/overlay/etcd. Each plugin is one.
func room(path string) string {
	parts := strings.SplitN(path, "/", 3)
	return strings.Join(parts[:min(2, len(parts))], "/")
}

func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func TestImportsGoDown(t *testing.T) {
	for _, p := range list(t) {
		path := strings.TrimPrefix(p.ImportPath, module)
		mine := row(path)
		if mine < 0 && within(path, "pkg") && path != "pkg" && !slices.Contains(forTests, path) {
			t.Errorf("%s is in no layer", path)
		}
		for _, i := range p.Imports {
			to, ours := strings.CutPrefix(i, module)
			if theirs := row(to); ours && mine >= 0 && theirs >= mine && (theirs > mine || room(path) != room(to)) {
				t.Errorf("%s imports %s, which is not below it", path, to)
			}
			for lib, users := range only {
				if mine >= 0 && within(i, lib) && !slices.ContainsFunc(users, func(dir string) bool { return within(path, dir) }) {
					t.Errorf("%s imports %s: only %v may", path, i, users)
				}
			}
		}
		if within(path, "plugins") {
			for _, d := range p.Deps {
				for _, h := range heavy {
					if within(d, h) {
						t.Errorf("%s links %s", path, d)
					}
				}
			}
		}
	}
}
