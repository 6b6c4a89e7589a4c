package overlay

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/integration/sandbox"
)

// typed is a command in the README, with the host whose prompt is before it.
var typed = regexp.MustCompile(`(?m)^(\w+)# (.*)$`)

// TestReadme types the README's quick start, line by line, on hosts with nothing but the
// programs.
func TestReadme(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../README.md")
	must(t, err)
	lines := typed.FindAllStringSubmatch(string(page), -1)
	if len(lines) < 8 {
		t.Fatalf("the README has %d commands for two hosts", len(lines))
	}
	c, err := cluster.New(cluster.Options{})
	must(t, err)
	t.Cleanup(c.Close)
	hosts := map[string]*cluster.Host{}
	for i, name := range []string{"oslo", "kiel"} {
		hosts[name] = bareHost(t, c, name, i+1)
	}
	for name, h := range hosts {
		other := hosts[map[string]string{"oslo": "kiel", "kiel": "oslo"}[name]]
		must(t, h.DefaultRoute(other))
	}
	for _, line := range lines {
		h, command := hosts[line[1]], line[2]
		if h == nil {
			t.Fatalf("%s: no such host", line[0])
		}
		// Of its name, which is what the agent goes by, each shell has its own.
		name := "hostname " + h.Name + " && "
		if program, background := strings.CutSuffix(command, " &"); background {
			_, err := h.Start("unshare", "--uts", "sh", "-c", name+"exec "+program) // so that it ends with the host
			must(t, err)
			continue
		}
		out, err := h.Output("unshare", "--uts", "sh", "-c", name+command)
		if err != nil {
			t.Fatalf("%s: %v\n%s", line[0], err, out)
		}
		t.Logf("%s\n%s", line[0], out)
	}
}

// bareHost is a host with Berth installed, and /etc and /var/lib of its own.
func bareHost(t *testing.T, c *cluster.Cluster, name string, number int) *cluster.Host {
	t.Helper()
	h, err := c.Host(name, number)
	must(t, err)
	bin, err := sandbox.Binaries()
	must(t, err)
	tools, err := filepath.Abs("../.bin")
	must(t, err)
	must(t, h.Script(fmt.Sprintf(`
		mkdir -p /run/etc /run/opt /run/local
		cp -a /etc/. /run/etc/
		mount --bind /run/etc /etc
		mount -t tmpfs tmpfs /etc/cni
		mount -t tmpfs tmpfs /var/lib
		mount --bind /run/opt /opt
		mkdir -p /opt/cni/bin
		cp -a %[1]s/. /opt/cni/bin/
		mount --bind /run/local /usr/local/bin
		cp %[1]s/berth %[2]s/cnitool /usr/local/bin/`, bin, tools)))
	return h
}
