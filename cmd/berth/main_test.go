package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { nstest.Main(m) }

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("not as in %s (-update writes it):\n%s", path, got)
	}
}

// memory is a store in memory, for what the program does with one. What it has of
// Control ends with the context.
type memory struct {
	state *overlay.State
	err   error // of every call
}

func (m *memory) State(context.Context) (*overlay.State, error) {
	return m.state, m.err
}

func (m *memory) CreateNetwork(_ context.Context, n overlay.Network) (overlay.Network, error) {
	if n.VNI == 0 {
		n.VNI = overlay.FirstVNI
	}
	if n.Encrypted && n.ListenPort == 0 {
		n.ListenPort = overlay.FirstListen
	}
	n.ID = "made"
	m.state.Apply(overlay.Update{Networks: []overlay.Network{n}})
	return n, m.err
}

func (m *memory) RemoveNetwork(_ context.Context, name string, force bool) error {
	if _, ok := m.state.Networks[name]; !ok {
		return fmt.Errorf("remove network %q: %w", name, overlay.ErrNotFound)
	}
	var by []string
	for key, b := range m.state.Blocks {
		if key.Network == name && b.Used {
			by = append(by, b.Node)
		}
	}
	slices.Sort(by)
	if len(by) > 0 && !force {
		return &overlay.InUseError{What: "network " + name, By: by}
	}
	m.state.Apply(overlay.Update{GoneNetworks: []string{name}})
	return m.err
}

func (m *memory) RemoveNode(_ context.Context, name string, force bool) error {
	if _, ok := m.state.Nodes[name]; !ok {
		return fmt.Errorf("remove node %q: %w", name, overlay.ErrNotFound)
	}
	if _, alive := m.state.Alive[name]; alive && !force {
		return &overlay.InUseError{What: "node " + name, By: []string{name}}
	}
	m.state.Apply(overlay.Update{GoneNodes: []string{name}})
	return m.err
}

func (m *memory) Watch(ctx context.Context, fn func(overlay.Update)) error {
	fn(overlay.Update{Full: true})
	<-ctx.Done()
	return ctx.Err()
}

func (m *memory) Restore(_ context.Context, from *overlay.State, dry bool) (*overlay.Restoration, error) {
	r := overlay.NewRestoration(m.state, from)
	if !dry {
		m.state.Apply(overlay.Update{Networks: r.Networks, Nodes: r.Nodes, Blocks: r.Blocks, Removed: r.Removed})
	}
	return r, m.err
}

func (m *memory) Miss(context.Context, overlay.Missed) error                              { return nil }
func (m *memory) Register(context.Context, overlay.Node, string, bool, func(error)) error { return nil }
func (m *memory) Claim(context.Context, overlay.Block) error                              { return nil }
func (m *memory) Withdraw(context.Context) error                                          { return nil }
func (m *memory) Close() error                                                            { return nil }

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// example is a store with two networks and three nodes.
func example() *memory { return &memory{state: overlaytest.Example(noon)} }

// berth runs the program on a store, which the configuration file names, on a host
// without networks.
func berth(t *testing.T, m *memory, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return berthWith(t, m, t.TempDir(), args...)
}

// berthWith is berth on a host with a data folder.
func berthWith(t *testing.T, m *memory, dataDir string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv("BERTH_STATE_DIR", t.TempDir())
	t.Setenv("BERTH_DATA_DIR", dataDir)
	t.Setenv(conflist.Env, t.TempDir())
	config, text := filepath.Join(t.TempDir(), "agent.yaml"), ""
	if m != nil {
		text = "store: etcd\n" // or the networks of this host are all that is asked for
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	p := &program{in: strings.NewReader(""), out: &out, err: &errs, now: func() time.Time { return noon },
		open: func(*settings, *slog.Logger) (overlay.Store, error) {
			if m == nil {
				return nil, errors.New("this test has no store")
			}
			return m, nil
		}}
	code = run(t.Context(), p, append(args, "--config", config)...)
	return code, out.String(), errs.String()
}

func TestHelp(t *testing.T) {
	t.Setenv("BERTH_STATE_DIR", "")
	t.Setenv("BERTH_DATA_DIR", "")
	t.Setenv("CNI_PATH", "")
	t.Setenv(conflist.Env, "")
	for _, c := range []string{"", "agent", "doctor", "network", "network create", "network ls", "network inspect", "network rm",
		"port", "port add", "port rm", "network prune", "network connect", "network disconnect", "network conflist", "node", "node ls", "node inspect", "node rm", "node prune"} {
		t.Run("berth "+c, func(t *testing.T) {
			var out bytes.Buffer
			if code := run(t.Context(), &program{out: &out, err: io.Discard}, append(strings.Fields(c), "--help")...); code != 0 {
				t.Errorf("exit code %d", code)
			}
			golden(t, "help/"+strings.ReplaceAll(strings.TrimSpace("berth "+c), " ", "-")+".txt", out.String())
		})
	}
}

func TestVersion(t *testing.T) {
	var out bytes.Buffer
	if code := run(t.Context(), &program{out: &out, err: io.Discard}, "--version"); code != 0 || out.String() != "berth devel (berth)\n" {
		t.Errorf("%d, %q", code, out.String())
	}
}

// TestBareFlag: a flag without its value says what it wants.
func TestBareFlag(t *testing.T) {
	var out bytes.Buffer
	code := run(t.Context(), &program{out: io.Discard, err: &out}, "network", "ls", "-f")
	if want := "flag needs an argument: 'f' in -f: want name=TEXT"; code != exitUsage || !strings.Contains(out.String(), want) {
		t.Errorf("%d, %q; want %q", code, out.String(), want)
	}
}

func TestUsage(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"netwrk", "netwrk: no such command: network?"},
		{"network foo", "network"},
		{"exec web sh", "exec: no such command: containers and images are the runtime's"},
		{"network create-x", "create-x: no such command"},
		{"port web 80/udpp", "80/udpp: want a port of the container, 1 to 65535, with /tcp"},
		{"port web 99999", "99999: want a port"},
		{"network ls --store x", "want etcd, static"},
		{"network ls --nope", "unknown flag: --nope"},
		{"network ls blue", "usage: berth network ls"},
		{"network inspect", "network inspect: got no argument\n       usage: berth network inspect"},
		{"network create a b", "network create: got \"a\" \"b\"\n       usage: berth network create"},
		{"network create --subent 10.0.0.0/24 a", "unknown flag: --subent: --subnet?; 'berth network create --help' shows all"},
		{"network ls --format {{.Nme}}", ".Nme: there is no such field: want .Berth, .Chain, .Containers"},
		{"network ls --format yaml", "want table, json, or a template"},
		{"network create --driver ivlan blue", "want bridge, macvlan, ipvlan, vxlan-overlay"},
		{"network create --driver vxlan-overlay --subnet 10.42.0.0/16 --opt mtu=5 blue", "--opt: \"mtu=5\": want encrypted"},
		{"network create --vni 5 --udp-port 6 blue", "--vni: is for --driver vxlan-overlay\n       --udp-port: is for"},
		{"network create --driver macvlan --no-names blue", "--no-names: is for --driver bridge or vxlan-overlay"},
		{"network create --driver ipvlan --no-names --gateway-mode-ipv6 nat blue", "--gateway-mode-ipv6: is for --driver bridge\n       --no-names: is for --driver bridge or vxlan-overlay"},
		{"network create --driver macvlan --gateway-mode-ipv4 nat blue", "--gateway-mode-ipv4: is for --driver bridge"},
		{"network create --driver vxlan-overlay --subnet 10.42.0.0/16 --gateway-mode-ipv6 nat --dns 10.42.0.9 blue", "--dns: is for --driver bridge, macvlan or ipvlan\n       --gateway-mode-ipv6: is for --driver bridge"},
		{"network create --gateway-mode-ipv4 NAT blue", "want nat, nat-unprotected, routed, isolated"},
		{"network create --sticky mac blue", "want name or pod"},
		{"network create -d none --sticky name blue", "--sticky: is for --driver bridge, macvlan or ipvlan"},
		{"network create --isolate --no-isolate blue", "cannot be together with --isolate"},
		{"network create host", "name: host: is predefined"},
		{"network create --gateway 10.42.0.300 blue", "want an address such as"},
		{"network create --address-pools 10.0.0.0/8:4 blue", "want a size of 8 to 30"},
		{"network ls --filter colour=red", "want name=TEXT"},
		{"network ls --format {{.Nope", "unclosed action"},
		{"network prune --filter until=yesterday", "want until=24h"},
		{"port add web 8080", "8080: "},
		{"port rm web x", "x: "},
		{"port add web", "usage: berth port add [flags] CONTAINER"},
		{"network connect blue", "network connect: got \"blue\""},
		{"network connect --publish 80 blue web", "want [ADDRESS:]PORT:PORT"},
		{"network create --driver vxlan-overlay --subnet 10.42.0.0 blue", "want a prefix such as"},
		{"network create --driver vxlan-overlay --label =x blue", "want key=value"},
		{"network create --driver vxlan-overlay --vni 16777216 blue", "0 to 16777215"},
		{"node prune", "--away: want how long"},
		{"node prune --away 10m", "a duration of 6h or more"},
		{"agent --listen 0.0.0.0:9477", "--listen: 0.0.0.0:9477: want an address of loopback"},
		{"agent --listen 9477", "want an IP address and a port"},
		{"agent --underlay 127.0.0.1", "that other hosts reach"},
		{"agent --node-name a/b", "want a letter or digit"},
		{"agent --resync 1", "want a duration of 100ms or more"},
		{"agent --etcd-user me", "--etcd-user: \"me\": want it together"},
		{"agent --store static", "--peers-file: \"\": want a file"},
		{"agent --etcd-cert x --etcd-user u --etcd-password p --etcd-password-file /nowhere", "together with --etcd-key"},
	} {
		code, out, errs := berth(t, nil, strings.Fields(c.args)...)
		if code != exitUsage || out != "" || !strings.Contains(errs, c.want) {
			t.Errorf("berth %s: %d, %q, %q; want 2 and %q", c.args, code, out, errs, c.want)
		}
	}
}
