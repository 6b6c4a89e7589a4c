package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
)

var (
	fence = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")
	makes = regexp.MustCompile(`^(?:sudo +)?make( .*)?$`)
)

// readmeBlocks returns the blocks of the README in one language.
func readmeBlocks(t *testing.T, language string) []string {
	t.Helper()
	blocks := fenced(page(t, "../README.md"), language)
	if len(blocks) == 0 {
		t.Fatalf("the README has no %s block", language)
	}
	return blocks
}

// page reads a file.
func page(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return string(data)
}

// fenced returns the blocks of a text in one language.
func fenced(text, language string) (blocks []string) {
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		if m[1] == language {
			blocks = append(blocks, m[2])
		}
	}
	return blocks
}

// TestReadmeConfigurations: libcni loads every JSON block, and the networks whose
// interface a bridge makes hold what they promise.
func TestReadmeConfigurations(t *testing.T) {
	t.Parallel()
	ran := 0
	for _, block := range readmeBlocks(t, "json") {
		list, err := readConfiguration(block)
		if err != nil {
			t.Errorf("%v:\n%s", err, block)
			continue
		}
		if list == nil || list.Plugins[0].Network.Type != "bridge" {
			continue
		}
		ran++
		t.Run(list.Name, func(t *testing.T) { runReadme(t, block) })
	}
	if ran == 0 {
		t.Error("no block is a network of bridge")
	}
}

// readConfiguration loads a list, or one plugin's configuration; nil for the latter.
func readConfiguration(text string) (*libcni.NetworkConfigList, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &keys); err != nil {
		return nil, err
	}
	if _, ok := keys["plugins"]; ok {
		return libcni.NetworkConfFromBytes([]byte(text))
	}
	_, err := libcni.NetworkPluginConfFromBytes([]byte(text))
	return nil, err
}

func runReadme(t *testing.T, conflist string) {
	b := newBed(t)
	n, err := b.Network(conflist, b.bin, b.ref)
	must(t, err)
	b.comesAndGoes(n)
	before := b.snapshot()
	g := &guest{bed: b, n: n, c: b.container("c1")}
	must(t, n.Status())
	g.r, g.addr = b.add(n, g.c, tcpPort(8080, 80))
	serve(t, g.c, ":80")
	g.reachesOut()
	if first6(g.r) != "" {
		g.reachesOut6()
	}
	if strings.Contains(conflist, "portMappings") {
		g.publishes()
	}
	for _, line := range readmeCommands(t) {
		if strings.HasPrefix(line, "nft list ") || strings.HasPrefix(line, "ip -br link ") {
			out, err := b.Output("sh", "-c", line)
			must(t, err)
			if !strings.Contains(out, hostHash(t, g.r)) {
				t.Errorf("%s does not show the container:\n%s", line, out)
			}
		}
	}
	must(t, n.Check(g.c, tcpPort(8080, 80)))
	must(t, n.GC(g.c))
	must(t, n.Del(g.c, tcpPort(8080, 80)))
	must(t, g.c.Remove())
	b.same(before, "after "+n.List.Name)
}

// hostHash is the end of the name of a container's interface on the host.
func hostHash(t *testing.T, r result) string {
	t.Helper()
	for _, i := range r.Interfaces {
		if hash, ok := strings.CutPrefix(i.Name, "veth"); ok && i.Sandbox == "" {
			return hash
		}
	}
	t.Fatalf("no veth on the host in %+v", r.Interfaces)
	return ""
}

// readmeCommands are the lines of the shell blocks.
func readmeCommands(t *testing.T) []string {
	t.Helper()
	var lines []string
	for _, block := range readmeBlocks(t, "sh") {
		for line := range strings.Lines(block) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// TestReadmeCommands: make knows every target that the README and CONTRIBUTING have.
func TestReadmeCommands(t *testing.T) {
	t.Parallel()
	ran := 0
	lines := readmeCommands(t)
	for _, block := range fenced(page(t, "../CONTRIBUTING.md"), "sh") {
		lines = append(lines, strings.Split(block, "\n")...)
	}
	for _, line := range lines {
		m := makes.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		ran++
		args := append([]string{"-C", "..", "-n", "DESTDIR=" + t.TempDir()}, strings.Fields(m[1])...)
		if out, err := exec.Command("make", args...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
	if ran == 0 {
		t.Error("the README has no command of make")
	}
}
