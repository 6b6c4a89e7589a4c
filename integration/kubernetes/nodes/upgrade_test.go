package nodes

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestUpgrade: another version of the image comes, and the one before it again. No datagram
// is lost, pods start meanwhile, and a conflist and its plugin are there all the time, whole.
func TestUpgrade(t *testing.T) {
	c := newCluster(t, "routed", Options{Proxy: "nftables", Images: []string{otherImage(t, "next")}})
	b := newBed(t, c)
	b.settled(t)
	for _, version := range []string{"next", "devel"} {
		manifest := imageOf(t, version)
		watch := c.watchConflists()
		under(t, "upgrade to "+version, b.b, func() {
			must(t, c.Apply("upgrade.yaml", manifest))
			for i := range 6 {
				p, err := c.Pod(c.Nodes[i%len(c.Nodes)], fmt.Sprint(version, i))
				must(t, err)
				must(t, c.Start(p))
				answers(t, p.Name, p.Ask, "tcp", at(b.b[0].Addrs[0], 80), b.b[0].Name, p.Addrs[0])
			}
			_, err := c.Kubectl("--namespace", BerthNamespace, "rollout", "status", "daemonset/berth", "--timeout=180s")
			must(t, err)
			for _, n := range c.Nodes {
				must(t, n.runs(version))
			}
		})
		if err := watch(); err != nil {
			t.Errorf("upgrade to %s: %v", version, err)
		}
	}
	b.leaveNothing(t)
}

// otherImage makes the image as of a version.
func otherImage(t *testing.T, version string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), version+".tar")
	out, err := exec.Command("go", "run", "github.com/berth-cni/berth/integration/image", "-root", "../../..",
		"-version", version, "-ref", "localhost/berth-cni/berth:"+version, "-platforms", runtime.GOARCH, "-o", path).CombinedOutput()
	if err != nil {
		t.Fatalf("make the image of %s: %v\n%s", version, err, out)
	}
	return path
}

// imageOf is the manifest, whose agents are of a version.
func imageOf(t *testing.T, version string) string {
	t.Helper()
	text, err := BerthManifest("routed")
	must(t, err)
	docs := strings.Split(text, "\n---\n")
	const image = "image: localhost/berth-cni/berth:"
	for i, doc := range docs {
		if strings.Contains(doc, "\nkind: DaemonSet\n") && strings.Count(doc, image+"devel\n") == 1 {
			docs[i] = strings.Replace(doc, image+"devel", image+version, 1)
			return strings.Join(docs, "\n---\n")
		}
	}
	t.Fatalf("deploy/berth.yaml has no DaemonSet with %sdevel", image)
	return ""
}

// runs waits until the node's plugin is of the image of a tag. `make image` has named the
// version after the commit.
func (n *Node) runs(version string) error {
	return Until(func() error {
		out, err := n.In("/opt/cni/bin/berth-vxlan-overlay", "--version")
		if err == nil && strings.Contains(out, "(berth) next\n") != (version == "next") {
			err = fmt.Errorf("the plugin of %s is another one: %q", n.Name, out)
		}
		return err
	})
}

// watchConflists looks, as often as it can, whether each node has a whole conflist and the
// plugin that it names, until the function it returns asks for what was seen.
func (c *Cluster) watchConflists() (stop func() error) {
	end, seen := make(chan struct{}), make(chan error)
	go func() {
		var errs []error
		for done := false; !done; {
			for _, n := range c.Nodes {
				data, err := os.ReadFile(filepath.Join(n.disk, "etc/cni/net.d/10-berth-pods.conflist"))
				if err == nil && !json.Valid(data) {
					err = fmt.Errorf("the conflist of %s is not whole: %q", n.Name, data)
				}
				_, missing := os.Stat(filepath.Join(n.disk, "opt/cni/bin/berth-vxlan-overlay"))
				if err = errors.Join(err, missing); err != nil && len(errs) < 3 {
					errs = append(errs, err)
				}
			}
			select {
			case <-end:
				done = true
			case <-time.After(time.Millisecond):
			}
		}
		seen <- errors.Join(errs...)
	}()
	return func() error {
		close(end)
		return <-seen
	}
}
