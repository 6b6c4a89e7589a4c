// Package integration drives the built plugins as runtimes do: through libcni,
// through cnitool, and by exec. Every test has a host of its own.
package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// TestMain wants the binaries: a test that did not run them has shown nothing.
func TestMain(m *testing.M) {
	for _, there := range []func() (string, error){sandbox.Binaries, sandbox.References} {
		if _, err := there(); err != nil {
			fmt.Fprintln(os.Stderr, "integration:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// bed is a host with an outside, for one test.
type bed struct {
	*sandbox.Host
	t        *testing.T
	outside  *sandbox.Container
	bin, ref string // folders of Berth's and of the reference plugins
}

func newBed(t *testing.T) *bed {
	t.Helper()
	h, err := sandbox.New()
	must(t, err)
	t.Cleanup(h.Close)
	b := &bed{Host: h, t: t}
	b.outside, err = h.Outside()
	must(t, err)
	b.bin, err = sandbox.Binaries()
	must(t, err)
	b.ref, err = sandbox.References()
	must(t, err)
	return b
}

// The network that most tests are on.
const (
	version = "1.1.0"
	gateway = "10.88.0.1"
	subnet  = `{"subnet": "10.88.0.0/16"}`
	subnet6 = `{"subnet": "fd00:88::/64"}`
	noIPAM  = `"type": "bridge", "bridge": "berth0", "isGateway": true, "ipMasq": true, "capabilities": {"portMappings": true, "ips": true, "mac": true}`
	ownIPAM = `"ipam": {"ranges": [[` + subnet + `], [` + subnet6 + `]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}`
	bridge  = `{` + noIPAM + `, ` + ownIPAM + `}`
)

func conflist(version string, plugins ...string) string {
	return fmt.Sprintf(`{"cniVersion": %q, "name": "demo", "plugins": [%s]}`, version, strings.Join(plugins, ", "))
}

// config is the configuration of one plugin as libcni hands it over: the object
// with the network's name and version, and more keys as given.
func config(version, plugin string, more ...string) string {
	return `{"cniVersion": "` + version + `", "name": "demo", ` + strings.Join(append(more, strings.TrimPrefix(plugin, "{")), ", ")
}

// with adds keys to a plugin's configuration.
func with(plugin string, more ...string) string {
	return "{" + strings.Join(append(more, strings.TrimPrefix(plugin, "{")), ", ")
}

// network is a conflist over Berth's plugins first, the reference's after them.
func (b *bed) network(plugins ...string) *sandbox.Network {
	b.t.Helper()
	n, err := b.Network(conflist(version, plugins...), b.bin, b.ref)
	must(b.t, err)
	return n
}

func (b *bed) container(name string) *sandbox.Container {
	b.t.Helper()
	c, err := b.Container(name)
	must(b.t, err)
	return c
}

// used returns the network after its first container came and went, and the host as
// it is then: what stays by design is in place.
func (b *bed) used(plugins ...string) (*sandbox.Network, sandbox.Snapshot) {
	b.t.Helper()
	n := b.network(plugins...)
	first := b.container("first")
	_, err := n.Add(first, tcpPort(7999, 80))
	must(b.t, err)
	must(b.t, n.Del(first, tcpPort(7999, 80)))
	must(b.t, first.Remove())
	return n, b.snapshot()
}

func (b *bed) snapshot() sandbox.Snapshot {
	b.t.Helper()
	s, err := b.Snapshot()
	must(b.t, err)
	return s.Without("conntrack")
}

// same fails the test when the host is not as it was.
func (b *bed) same(before sandbox.Snapshot, what string) {
	b.t.Helper()
	if diff := before.Diff(b.snapshot()); diff != nil {
		b.t.Errorf("%s: the host is not as before:\n%s", what, strings.Join(diff, "\n"))
	}
}

// call runs Berth's bridge by exec.
func (b *bed) call(c sandbox.Call) sandbox.Reply {
	b.t.Helper()
	if c.Plugin == "" {
		c.Plugin = filepath.Join(b.bin, "bridge")
	}
	if c.IfName == "" {
		c.IfName = "eth0"
	}
	if c.Path == "" {
		c.Path = b.bin + ":" + b.ref
	}
	r, err := b.Call(c)
	must(b.t, err)
	return r
}

// good fails the test when the plugin failed.
func (b *bed) good(r sandbox.Reply) sandbox.Reply {
	b.t.Helper()
	if r.Exit != 0 {
		b.t.Fatalf("exit %d: %s%s", r.Exit, r.Stdout, r.Stderr)
	}
	return r
}

// refused fails the test unless the plugin failed with that code (0: any) and a
// message that has all the words.
func (b *bed) refused(r sandbox.Reply, code uint, words ...string) {
	b.t.Helper()
	e, err := r.Failure()
	if err != nil {
		b.t.Errorf("want a refusal: %v; standard error: %s", err, r.Stderr)
		return
	}
	if code != 0 && e.Code != code {
		b.t.Errorf("code %d, want %d: %s", e.Code, code, e.Msg)
	}
	for _, w := range words {
		if !strings.Contains(e.Msg+e.Details, w) {
			b.t.Errorf("no %q in %q", w, e.Msg)
		}
	}
}

func tcpPort(host, container int) sandbox.Option {
	return sandbox.Cap("portMappings", []map[string]any{{"hostPort": host, "containerPort": container, "protocol": "tcp"}})
}

// result is a CNI result as of 1.0.0, as far as tests look.
type result struct {
	CNIVersion string `json:"cniVersion"`
	Interfaces []struct {
		Name, Mac, Sandbox string
		Mtu                int
	} `json:"interfaces"`
	IPs []struct {
		Address, Gateway string
		Interface        *int
	} `json:"ips"`
	Routes []struct{ Dst, GW string } `json:"routes"`
	DNS    struct{ Nameservers, Search []string }
}

// add attaches and returns the result, and the first IPv4 address without its length.
func (b *bed) add(n *sandbox.Network, c *sandbox.Container, opts ...sandbox.Option) (result, string) {
	b.t.Helper()
	text, err := n.AddJSON(c, opts...)
	must(b.t, err)
	return parse(b.t, text)
}

// parse reads a result, and the first IPv4 address without its length.
func parse(t *testing.T, text string) (result, string) {
	t.Helper()
	var r result
	must(t, json.Unmarshal([]byte(text), &r))
	for _, ip := range r.IPs {
		if addr, _, ok := strings.Cut(ip.Address, "/"); ok && strings.Contains(addr, ".") {
			return r, addr
		}
	}
	return r, ""
}

// answers fails the test unless who, asking at the address, is answered by the
// container, which sees the peer's address.
func (b *bed) answers(who interface {
	Ask(string) (string, error)
}, address string, by *sandbox.Container, peer string) {
	b.t.Helper()
	got, err := who.Ask(address)
	if err != nil {
		b.t.Errorf("ask %s: %v", address, err)
		return
	}
	id, from, _ := strings.Cut(got, " ")
	if id != by.ID || peer != "" && from != peer {
		b.t.Errorf("%s was answered %q, want %s %s", address, got, by.ID, peer)
	}
}

func serve(t *testing.T, c *sandbox.Container, address string) {
	t.Helper()
	stop, err := c.Serve(address)
	must(t, err)
	t.Cleanup(stop)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// addresses are those of a result, with their lengths.
func addresses(t *testing.T, text string) []string {
	t.Helper()
	var r result
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Error(err)
	}
	var all []string
	for _, ip := range r.IPs {
		all = append(all, ip.Address)
	}
	return all
}
