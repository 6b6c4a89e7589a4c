package runtimes

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// berth runs the program for people, with podman's networks.
func (p *podman) berth(t testing.TB, args ...string) string {
	t.Helper()
	if args[0] == "network" {
		args = append(args, "--net-dir", p.dir+"/net.d", "--bin-dir", p.plugins)
	}
	return p.mustRun(append([]string{filepath.Join(p.plugins, "berth")}, args...)...)
}

// finds fails the test unless a container reaches a server by name; "": nobody.
func (p *podman) finds(t testing.TB, from, name, server string) {
	t.Helper()
	if server != "" {
		answered(t, p.in(from), name+":80", server, "")
	} else if out, err := p.in(from)("tcp", name+":80"); err == nil {
		t.Errorf("%s finds %s: %s", from, name, out)
	}
}

// TestPodmanCalled is what podman's containers are called, with a client on their network.
func TestPodmanCalled(t *testing.T) {
	p := newPodman(t)
	p.write("net.d/named.conflist", podmanNamed)
	p.container(t, "client", "--network=named")
	for _, test := range []struct {
		name string
		run  func(*testing.T, *podman)
	}{{"rename", podmanRename}, {"pod", podmanPod}, {"killed", podmanKilled}, {"connected", podmanConnected}} {
		t.Run(test.name, func(t *testing.T) { test.run(t, p) })
	}
}

// podmanRename: plugins are not told of it: the new name is there from the next ADD on,
// that of 'podman network reload' or of a restart.
func podmanRename(t *testing.T, p *podman) {
	p.container(t, "web", "--network=named", "--network-alias=shop")
	p.do(t, "rename", "web", "store")
	p.finds(t, "client", "web", "web")
	p.finds(t, "client", "store", "")
	p.do(t, "network", "reload", "store")
	p.finds(t, "client", "web", "")
	p.finds(t, "client", "store", "web")
	p.finds(t, "client", "shop", "web")
	p.remove(t, "store")
}

// podmanPod: a pod has its own name, and the aliases that it was made with; its
// containers have none.
func podmanPod(t *testing.T, p *podman) {
	p.do(t, "pod", "create", "--name=pod", "--cgroup-parent="+p.cgroup, "--infra-image="+image, "--infra-command=/server pause",
		"--network=named", "--network-alias=inside")
	p.do(t, "run", "--detach", "--name=inside", "--pod=pod", image, "serve", "inside", "80")
	must(t, listening(p.in("inside"), 80))
	p.do(t, "run", "--detach", "--name=other", "--pod=pod", image, "serve", "other", "81")
	p.finds(t, "client", "pod", "inside")
	p.finds(t, "client", "inside", "inside")
	p.finds(t, "client", "other", "")
	p.finds(t, "other", "client", "client")
	p.do(t, "pod", "rm", "--force", "--time=0", "pod")
	p.finds(t, "client", "pod", "")
}

// podmanKilled: the name of a container whose process is killed goes with it, and what it
// published; podman's conmon sees to that.
func podmanKilled(t *testing.T, p *podman) {
	p.container(t, "web", "--network=named")
	p.finds(t, "client", "web", "web")
	p.mustRun("kill", "-9", strings.TrimSpace(p.do(t, "inspect", "--format={{.State.Pid}}", "web")))
	for range 300 {
		if !strings.Contains(p.berth(t, "ps"), "web") {
			p.finds(t, "client", "web", "")
			p.remove(t, "web")
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Error("the name is still there after 30 s")
}

// podmanConnected: a container is connected by its short ID and disconnected by its name,
// and one of a pod is by a process of it.
func podmanConnected(t *testing.T, p *podman) {
	p.container(t, "web", "--network=one")
	id := strings.TrimSpace(p.do(t, "ps", "--quiet", "--filter=name=web"))
	p.berth(t, "network", "connect", "--alias=shop", "named", id)
	p.finds(t, "client", "shop", "web")
	p.finds(t, "client", id, "web")
	p.berth(t, "network", "disconnect", "named", "web")
	p.finds(t, "client", "shop", "")
	p.berth(t, "network", "connect", "named", strings.TrimSpace(p.do(t, "inspect", "--format={{.State.Pid}}", "web")))
	p.finds(t, "client", "web", "web")
	p.remove(t, "web")
	p.finds(t, "client", "web", "")
	if out := p.berth(t, "ps"); strings.Contains(out, "web") {
		t.Errorf("left after rm:\n%s", out)
	}
}
