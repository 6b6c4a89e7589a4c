package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/overlay"
)

// desk is a host's folders, for the commands of one test.
type desk struct {
	t          *testing.T
	dir, state string
	config     string
}

// newDesk has folders with names that a golden file can have.
func newDesk(t *testing.T, config string) *desk {
	t.Helper()
	root := t.TempDir()
	p := &desk{t, filepath.Join(root, "net.d"), filepath.Join(root, "state"), filepath.Join(root, "agent.yaml")}
	if err := errors.Join(os.WriteFile(p.config, []byte(config), 0o600), os.Mkdir(p.state, 0o700)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("BERTH_DATA_DIR", filepath.Join(root, "data"))
	return p
}

func (p *desk) run(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	prog := &program{in: strings.NewReader(""), out: &out, err: &errs, now: func() time.Time { return noon },
		open: func(*settings, *slog.Logger) (overlay.Store, error) { return nil, errors.New("this test has no store") }}
	code = run(p.t.Context(), prog, append(args, "--config", p.config, "--net-dir", p.dir, "--state-dir", p.state, "--bin-dir", "/nowhere")...)
	clean := strings.NewReplacer(p.dir, "NETDIR", p.state, "STATE")
	return code, clean.Replace(out.String()), clean.Replace(errs.String())
}

// transcript is what a person would see.
func (p *desk) transcript(commands ...string) string {
	var b strings.Builder
	for _, c := range commands {
		code, out, errs := p.run(split(c)...)
		fmt.Fprintf(&b, "$ berth %s\n%s%s", c, out, errs)
		if code != 0 {
			fmt.Fprintf(&b, "[exit code %d]\n", code)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// split cuts at blanks, but for those in single quotes.
func split(command string) []string {
	var words []string
	for i, part := range strings.Split(command, "'") {
		if i%2 == 1 {
			words = append(words, part)
			continue
		}
		words = append(words, strings.Fields(part)...)
	}
	return words
}

// attach puts a record, as a plugin would have made it.
func (p *desk) attach(a *attach.Attachment) {
	p.t.Helper()
	if a.Netns == "" {
		a.Netns = nstest.Namespace(p.t)
	}
	a.Created = noon.Add(-time.Hour)
	err := attach.New(p.state, cni.Decode).Add(p.t.Context(), &attach.Adding{Attachment: a})
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *desk) file(name, text string) {
	p.t.Helper()
	if err := errors.Join(os.MkdirAll(p.dir, 0o755), os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644)); err != nil {
		p.t.Fatal(err)
	}
}

func ips(t *testing.T, words ...string) (all []attach.Address) {
	t.Helper()
	for _, w := range words {
		all = append(all, attach.Address{Prefix: netip.MustParsePrefix(w)})
	}
	return all
}

func ip(t *testing.T, args string) {
	t.Helper()
	if err := nstest.Run("ip", strings.Fields(args)...); err != nil {
		t.Fatal(err)
	}
}

func TestHostNetworks(t *testing.T) {
	nstest.Host(t)
	ip(t, "link add wire type veth peer name far")
	ip(t, "link set wire up")
	ip(t, "address add 172.18.9.1/24 dev wire")
	p := newDesk(t, "address-pools: [172.18.0.0/15:16, 'fd00:77::/48:64']\n")
	p.file("10-hand.conflist", `{"cniVersion": "1.0.0", "name": "hand", "plugins": [{"type": "bridge", "bridge": "hand0", "isGateway": true, "ipam": {"subnet": "10.77.0.0/24"}}, {"type": "portmap"}]}`)
	p.file("99-broken.conf", `{`)
	p.attach(&attach.Attachment{Key: attach.Key{Network: "hand", Container: "0123456789abcdef", IfName: "eth0"}, Plugin: "bridge",
		Args: map[string]string{"K8S_POD_NAME": "web"}, Addresses: ips(t, "10.77.0.2/24"), Ports: []attach.Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}})
	golden(t, "host-networks.txt", p.transcript(
		"network create plain",
		"network create --ignore --subnet 172.25.0.0/16 plain",
		"network create --ipv6 --label team=web --label keep=1 --opt com.docker.network.driver.mtu=1400 --aux-address printer=172.21.7.4 --subnet 172.21.0.0/16 --gateway 172.21.0.254 --ip-range 172.21.7.0/24 full",
		"network create --subnet 172.21.5.0/24 --subnet 10.77.0.128/25 --subnet 172.18.9.0/25 --opt bridge=hand0 plain",
		"network create --driver macvlan --opt parent=wire --subnet 172.18.9.0/24 --gateway 172.18.9.254 lan",
		"network create none",
		"network create",
		"network ls",
		"network ls --no-trunc -f type=custom -f name=hand",
		"network ls --format 'table {{.Name}}\\t{{.Driver}}\\t{{.CreatedAt}}' -f scope=local",
		"network ls --format '{{.ID}} {{.Label \"team\"}} {{.Labels}} {{.Internal}} {{.IPv6}}' -f name=full",
		"network ls -q --filter driver=bridge --filter label=team=web --filter label=nope",
		"network ls -q --filter dangling=false",
		"network ls --filter name=pl --format json",
		"network ls --format '{{.Name}}: {{.Driver}} {{join .Versions \"+\"}}' --filter name=hand",
		"network inspect hand",
		"network inspect --format table hand",
		"network inspect --format json full",
		"network inspect -f '{{.Name}} {{.Options}} {{range .IPAM.Config}}{{.Subnet}} {{end}}{{.Link}}' -v full",
		"network inspect -v lan",
		"network inspect hand nope lan",
		"network rm hand nope none",
		"network connect hand web",
		"network connect plain 0123",
		"network connect plain nobody",
		"network connect host web",
		"network connect nope web",
		"network disconnect plain web",
		"network disconnect --force plain web",
		"network disconnect --force plain nobody",
		"network disconnect hand web",
		"network rm hand",
		"network rm --force hand",
		"network rm -f nope",
		"gc nosuch",
		"reload nosuch",
		"network prune",
		"network prune --dry-run --filter until=24h",
		"network prune --dry-run --filter until=2026-03-02T00:00:00Z --filter label!=team",
		"network prune --force --filter label=team=web",
		"network prune --yes",
		"network prune --yes",
		"network ls",
	))
	if entries, err := os.ReadDir(p.dir); err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// An overlay network is shown by its conflist where no store is named, and removed from
// the store only.
func TestOverlayFile(t *testing.T) {
	nstest.Host(t)
	p := newDesk(t, "")
	p.file("blue.conflist", `{"name": "blue", "plugins": [{"type": "vxlan-overlay"}]}`)
	if code, out, errs := p.run("network", "ls", "--filter", "name=blue", "--format", "{{.Driver}} {{.Scope}}"); code != 0 || out != "vxlan-overlay global\n" {
		t.Errorf("%d, %q, %q", code, out, errs)
	}
	if code, _, errs := p.run("network", "rm", "blue"); code != exitFailed || !strings.Contains(errs, "network blue: spans hosts") {
		t.Errorf("%d, %q", code, errs)
	}
	if code, _, errs := p.run("network", "create", "blue"); code != exitFailed || !strings.Contains(errs, "there is a network of that name") {
		t.Errorf("%d, %q", code, errs)
	}
}

// The file has keys for commands that read no store, too, and a flag wins.
func TestPoolsOfConfig(t *testing.T) {
	nstest.Host(t)
	p := newDesk(t, "address-pools: 10.200.0.0/16:24\n")
	for _, c := range []struct{ args, want string }{
		{"network create a", "10.200.0.0/24"}, {"network create --install b", "10.200.1.0/24"},
		{"network create --address-pools 10.201.0.0/30 --address-pools 10.202.0.0/29 c", "10.201.0.0/30"},
	} {
		if code, out, errs := p.run(strings.Fields(c.args)...); code != 0 {
			t.Fatal(out, errs)
		}
		files, err := conflist.Dir(p.dir).List()
		if err != nil {
			t.Fatal(err)
		}
		name := c.args[len(c.args)-1:]
		if i := slices.IndexFunc(files, func(f *conflist.File) bool { return f.Name == name }); files[i].Taken()[0].Prefix.String() != c.want {
			t.Errorf("%s: %v, want %s", c.args, files[i].Taken(), c.want)
		}
	}
	code, _, errs := p.run("network", "create", "--address-pools", "10.201.0.0/30", "d")
	if code != exitFailed || !strings.Contains(errs, "--subnet: none is free in the pools 10.201.0.0/30") {
		t.Errorf("%d, %s", code, errs)
	}
}
