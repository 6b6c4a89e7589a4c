package nodes

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/kubernetes"
	"github.com/berth-cni/berth/integration/sandbox"
)

// page is docs/kubernetes.md, whose commands are typed as they are there.
type page struct {
	*Cluster
	t         *testing.T
	root, bin string // the checkout; what the commands find on PATH
	text      string
}

// TestTyped: the quick start of docs/kubernetes.md, by the manifest and by Helm, and after
// each what it says on the way off: nothing of Berth is left, neither on the nodes nor in the
// API.
func TestTyped(t *testing.T) {
	p := newPage(t, bare(t, Options{Nodes: 2, Proxy: "nftables"}))
	// The first command is `make image`, which has been run.
	p.onNodes(p.commands("Quick start", 0)[1:])
	p.run(p.commands("Quick start", 1))
	p.pods("10.244.")
	p.uninstall()
	p.run(p.commands("Quick start", 2))
	p.run([]string{"kubectl -n berth-system rollout status daemonset/berth"})
	p.pods("10.42.", "fd00:42:")
	p.run(p.commands("Upgrade", 0))
	p.uninstall()
}

func newPage(t *testing.T, c *Cluster) *page {
	t.Helper()
	bin, err := sandbox.Binaries()
	must(t, err)
	p := &page{Cluster: c, t: t, root: filepath.Dir(bin), bin: t.TempDir()}
	text, err := os.ReadFile(filepath.Join(p.root, "docs/kubernetes.md"))
	must(t, err)
	p.text = string(text)
	for _, name := range []string{"kubectl", "helm"} {
		program, err := kubernetes.Program(name)
		must(t, err)
		must(t, os.Symlink(program, filepath.Join(p.bin, name)))
	}
	ctr, err := containerd("ctr")
	must(t, err)
	must(t, os.Symlink(ctr, filepath.Join(p.bin, "ctr")))
	return p
}

// commands are those of a section's block, of which the first has the number 0.
func (p *page) commands(section string, block int) []string {
	p.t.Helper()
	_, text, found := strings.Cut(p.text, "\n## "+section+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	var blocks [][]string
	inside := false
	for line := range strings.Lines(text) {
		command, indented := strings.CutPrefix(line, "    ")
		if indented && !inside {
			blocks = append(blocks, nil)
		}
		if inside = indented; inside {
			blocks[len(blocks)-1] = append(blocks[len(blocks)-1], strings.TrimSuffix(command, "\n"))
		}
	}
	if !found || block >= len(blocks) {
		p.t.Fatalf("docs/kubernetes.md: %q has %d blocks of commands, want number %d", section, len(blocks), block)
	}
	return blocks[block]
}

func (p *page) script(commands []string) string {
	return fmt.Sprintf("cd %s\nexport PATH=%s:$PATH KUBECONFIG=%s HOME=%s\nset -ex\n%s\n", p.root, p.bin, p.config, p.bin, strings.Join(commands, "\n"))
}

// run runs commands where kubectl is.
func (p *page) run(commands []string) {
	p.t.Helper()
	out, err := p.Nodes[0].Host.Output("bash", "-c", p.script(commands))
	if err != nil {
		p.t.Fatalf("%s\n%s\n%v\n%s", strings.Join(commands, "\n"), out, err, p.Trouble())
	}
	p.t.Logf("%s\n%s", strings.Join(commands, "\n"), out)
}

// onNodes runs commands on every node.
func (p *page) onNodes(commands []string) {
	p.t.Helper()
	for _, n := range p.Nodes {
		_, err := n.In("bash", "-c", p.script(commands))
		must(p.t, err)
	}
}

// pods has pods on both nodes, with addresses that begin so, reach each other; and takes them
// away.
func (p *page) pods(prefixes ...string) {
	p.t.Helper()
	must(p.t, p.Ready())
	var all []*Pod
	for _, n := range p.Nodes {
		pod, err := p.Pod(n, "pod-"+n.Name, Port{hostPort, "", 80, "TCP"})
		must(p.t, err)
		all = append(all, pod)
	}
	must(p.t, p.Start(all...))
	for k, from := range all {
		to := all[1-k]
		if len(to.Addrs) != len(prefixes) {
			p.t.Fatalf("pod %s has %v, want addresses of %v", to.Name, to.Addrs, prefixes)
		}
		for i, prefix := range prefixes {
			if !strings.HasPrefix(to.Addrs[i].String(), prefix) {
				p.t.Errorf("pod %s has %v, want addresses of %v", to.Name, to.Addrs, prefixes)
			}
			answers(p.t, from.Name+" to "+to.Name, from.Ask, "tcp", at(to.Addrs[i], 80), to.Name, from.Addrs[i])
		}
		answers(p.t, "outside to "+from.Name, p.AskOutside, "tcp", at(from.Node.Addr4, hostPort), from.Name, p.Outside.Addr4)
	}
	_, err := p.Kubectl("delete", "pods", "--all", "--timeout=120s")
	must(p.t, err)
}

// uninstall runs what the page says on the way off.
func (p *page) uninstall() {
	p.t.Helper()
	p.run(p.commands("Uninstall", 0))
	for _, n := range p.Nodes {
		left, err := n.In("sh", "-c", "cd /opt/cni/bin && ls -d berth-* 2>/dev/null; find /etc/cni/net.d /var/lib/berth /run/berth -type f; nft list tables | grep berth; ip -br link show type vxlan; ip -br link show type bridge; ip route show proto 98; true")
		if err != nil || left != "" {
			p.t.Errorf("left on %s: %q, %v", n.Name, left, err)
		}
	}
	for _, kind := range []string{"customresourcedefinitions", "namespaces", "clusterroles", "clusterrolebindings", "validatingadmissionpolicies", "validatingadmissionpolicybindings"} {
		names, err := p.Kubectl("get", kind, "--output=name")
		must(p.t, err)
		if strings.Contains(names, "berth") {
			p.t.Errorf("left in the API: %s", names)
		}
	}
}
