package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
	"github.com/containernetworking/cni/libcni"
)

const examplesDir = "../conf-examples"

// guest is a container on the network of an example, while it is attached. It asks
// for host port 8080, and serves port 80.
type guest struct {
	*bed
	n    *sandbox.Network
	c    *sandbox.Container
	r    result
	addr string // the first IPv4 address
}

// examples says of each file what the host needs before, and what it promises.
var examples = map[string]struct {
	prepare func(*bed)
	promise func(*guest)
}{
	"10-bridge":          {nil, func(g *guest) { g.reachesOut(); g.publishes() }},
	"11-dual-stack":      {nil, func(g *guest) { g.reachesOut(); g.reachesOut6(); g.publishes() }},
	"12-internal":        {nil, (*guest).internal},
	"13-isolated":        {func(b *bed) { b.comesAndGoes(b.second()) }, (*guest).isolated},
	"14-no-icc":          {nil, (*guest).noICC},
	"15-layer2":          {nil, (*guest).layer2},
	"16-front":           {func(b *bed) { b.comesAndGoes(b.example("17-back")) }, (*guest).twoNetworks},
	"17-back":            {nil, (*guest).internal},
	"18-names":           {func(b *bed) { b.agent() }, func(g *guest) { g.reachesOut(); g.publishes(); g.named() }},
	"19-routed":          {nil, func(g *guest) { g.reachesOut(); g.reachesOut6(); g.publishes() }},
	"20-macvlan":         {(*bed).lan, func(g *guest) { g.onLAN(); g.unreachable(g, g.addr+":80", "macvlan") }},
	"21-macvlan-shim":    {(*bed).lan, func(g *guest) { g.onLAN(); g.answers(g, g.addr+":80", g.c, lanHost) }},
	"22-overlay":         {(*bed).overlay, func(g *guest) { g.reachesOut(); g.publishes() }},
	"23-ipvlan":          {func(b *bed) { b.ipvlan(); b.lan() }, func(g *guest) { g.onLAN(); g.unreachable(g, g.addr+":80", "ipvlan") }},
	"30-none":            {nil, (*guest).loOnly},
	"31-host":            {nil, (*guest).onHost},
	"32-container-share": {(*bed).web, (*guest).besideWeb},
	"40-chain":           {(*bed).ifb, (*guest).tuned},
	"41-host-local":      {nil, func(g *guest) { g.reachesOut(); g.publishes() }},
	"50-containerd":      {nil, (*guest).pods},
	"51-crio":            {nil, func(g *guest) { g.reachesOut(); g.reachesOut6() }},
}

// TestExamples runs every file of the folder; each has a test, and a line in the
// folder's README.
func TestExamples(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(filepath.Join(examplesDir, "README.md"))
	must(t, err)
	files, err := os.ReadDir(examplesDir)
	must(t, err)
	var names []string
	for _, f := range files {
		if f.Name() == "README.md" || f.IsDir() {
			continue
		}
		name := strings.TrimSuffix(f.Name(), ".conflist")
		names = append(names, name)
		e, ok := examples[name]
		if !ok || name == f.Name() {
			t.Errorf("%s: no test knows how to run it", f.Name())
			continue
		}
		if strings.Count(string(readme), "\n| `"+f.Name()+"` | ") != 1 {
			t.Errorf("%s: the README has not one line for it", f.Name())
		}
		t.Run(name, func(t *testing.T) { runExample(t, name, e.prepare, e.promise) })
	}
	for name := range examples {
		if !slices.Contains(names, name) {
			t.Errorf("%s: there is a test, but no file", name)
		}
	}
}

func runExample(t *testing.T, name string, prepare func(*bed), promise func(*guest)) {
	t.Parallel()
	b := newBed(t)
	if prepare != nil {
		prepare(b)
	}
	before := b.older(name)
	g := &guest{bed: b, n: b.example(name), c: b.container("c1")}
	must(t, g.n.Status())
	g.r, g.addr = b.add(g.n, g.c, tcpPort(8080, 80))
	if g.r.CNIVersion != version {
		t.Errorf("the result is of version %q, want %s", g.r.CNIVersion, version)
	}
	serve(t, g.c, ":80")
	promise(g)
	must(t, g.n.Check(g.c, tcpPort(8080, 80)))
	must(t, g.n.GC(g.c))
	must(t, g.n.Check(g.c, tcpPort(8080, 80)))
	must(t, g.n.Del(g.c, tcpPort(8080, 80)))
	must(t, g.c.Remove())
	b.same(before, "after "+name)

	lost := b.container("lost") // by its runtime
	b.add(g.n, lost, tcpPort(8080, 80))
	must(t, g.n.GC())
	must(t, lost.Remove())
	b.same(before, "after GC of "+name)
}

// example loads a file as libcni does.
func (b *bed) example(name string) *sandbox.Network {
	b.t.Helper()
	list, err := libcni.NetworkConfFromFile(filepath.Join(examplesDir, name+".conflist"))
	must(b.t, err)
	if _, what, _ := strings.Cut(name, "-"); list.Name != "berth-"+what {
		b.t.Errorf("the network of %s is called %s, want berth-%s", name, list.Name, what)
	}
	n, err := b.Network(string(list.Bytes), b.bin, b.ref)
	must(b.t, err)
	return n
}

// older has a first container come and go as under a runtime that knows no
// cniVersions, and returns the host as it is then.
func (b *bed) older(name string) sandbox.Snapshot {
	b.t.Helper()
	var list map[string]any
	must(b.t, json.Unmarshal(b.example(name).List.Bytes, &list))
	delete(list, "cniVersions")
	text, err := json.Marshal(list)
	must(b.t, err)
	n, err := b.Network(string(text), b.bin, b.ref)
	must(b.t, err)
	first := b.container("first")
	r, _ := b.add(n, first, tcpPort(8080, 80))
	if r.CNIVersion != "1.0.0" {
		b.t.Errorf("without cniVersions the result is of version %q, want 1.0.0", r.CNIVersion)
	}
	must(b.t, n.Check(first, tcpPort(8080, 80)))
	must(b.t, n.Del(first, tcpPort(8080, 80)))
	must(b.t, first.Remove())
	return b.snapshot()
}

// leave takes a further container of the example away.
func (g *guest) leave(n *sandbox.Network, c *sandbox.Container, opts ...sandbox.Option) {
	g.t.Helper()
	must(g.t, n.Del(c, opts...))
	must(g.t, c.Remove())
}

// ping fails the test unless the address answers the container.
func ping(t *testing.T, c *sandbox.Container, address string) {
	t.Helper()
	if _, err := c.Output("ping", "-c1", "-W2", address); err != nil {
		neighbours, _ := c.Output("ip", "neighbour")
		t.Errorf("%s: %v\nneighbours: %s", c.ID, err, neighbours)
	}
}

// TestExamplesTogether has a container on each example at the same time, on one host:
// no file is in another's way.
func TestExamplesTogether(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.lan()
	b.ifb()
	b.overlay()
	for _, name := range []string{"first", "second"} {
		before := b.snapshot()
		var leave []func()
		for _, path := range exampleFiles(t) {
			file := strings.TrimSuffix(filepath.Base(path), ".conflist")
			if file == "23-ipvlan" {
				continue // the interface that it wants is the macvlans' already
			}
			n, c := b.example(file), b.container(name+"-"+file)
			opts := []sandbox.Option{sandbox.Arg("IgnoreUnknown", "1")}
			if file == "10-bridge" {
				opts = append(opts, sandbox.Arg("K8S_POD_NAME", "web")) // for container-share
			}
			b.add(n, c, opts...)
			leave = append(leave, func() {
				must(t, n.Check(c, opts...))
				must(t, n.Del(c, opts...))
				must(t, c.Remove())
			})
		}
		for _, l := range slices.Backward(leave) {
			l()
		}
		if name == "second" {
			b.same(before, "after all examples")
		}
	}
}

func exampleFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(examplesDir, "*.conflist"))
	must(t, err)
	return files
}
