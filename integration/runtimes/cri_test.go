package runtimes

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The versions that every runtime takes: see TestVersions.
const everyVersion = `"cniVersion": "1.0.0", "cniVersions": ["1.0.0", "1.1.0"]`

// The pods' network, in both families.
const podNetwork = `{` + everyVersion + `, "name": "pods", "plugins": [
	{"type": "bridge", "bridge": "berth0", "isGateway": true, "ipMasq": true,
	 "capabilities": {"portMappings": true, "dns": true},
	 "ipam": {"ranges": [[{"subnet": "10.88.0.0/16"}], [{"subnet": "fd00:88::/64"}]],
	          "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
	{"type": "failing"}]}`

// TestContainerd runs pods by the CRI, as the kubelet does.
func TestContainerd(t *testing.T) {
	for _, c := range containerds {
		t.Run(c.name, func(t *testing.T) {
			d := newDaemon(t, c, podNetwork)
			first := d.pod(t, "first", 7999)
			first.stop(t)
			first.remove(t)
			empty := d.snapshot(t)
			for _, test := range []struct {
				name string
				run  func(*testing.T, *daemon, sandbox.Snapshot)
			}{
				{"traffic", podTraffic}, {"failing plugin", podFails}, {"eight at once", podsAtOnce},
				{"stop twice", podStopsTwice}, {"namespace gone", podNamespaceGone}, {"daemon killed", daemonKilled},
			} {
				t.Run(test.name, func(t *testing.T) {
					test.run(t, d, empty)
					d.same(t, empty, "after the last pod")
				})
			}
		})
	}
}

func podTraffic(t *testing.T, d *daemon, _ sandbox.Snapshot) {
	a, b := d.pod(t, "a", 8080), d.pod(t, "b", 0)
	if state := strings.Join(d.snapshot(t)["state"], "\n"); !strings.Contains(state, a.id) || !strings.Contains(state, b.id) {
		t.Errorf("Berth has no record of the pods:\n%s", state)
	}
	for _, x := range []struct{ own, peer, host, outside string }{
		{a.ip4, b.ip4, sandbox.HostAddr4, sandbox.OutsideAddr4},
		{a.ip6, b.ip6, sandbox.HostAddr6, sandbox.OutsideAddr6},
	} {
		answered(t, b.ask, at(x.own, 80), "a", x.peer)
		answered(t, a.ask, at(x.peer, 80), "b", x.own)
		answered(t, a.ask, at(x.outside, 80), "outside", x.host) // masqueraded
		answered(t, d.fromHost, at(x.own, 80), "a", "")
		published := at(x.host, 8080)
		answered(t, d.fromOutside, published, "a", x.outside)
		answered(t, d.fromHost, published, "a", "")
		answered(t, b.ask, published, "a", "")
		answered(t, a.ask, published, "a", "")
	}
	answered(t, d.fromHost, "127.0.0.1:8080", "a", "")
	answered(t, d.fromOutside, at(sandbox.HostAddr4, 8080+onlyIPv4), "a", sandbox.OutsideAddr4)
	refused(t, d.fromOutside, at(sandbox.HostAddr6, 8080+onlyIPv4))
	for _, p := range []*pod{a, b} {
		p.stop(t)
		refused(t, d.fromOutside, at(sandbox.HostAddr4, 8080))
		p.remove(t)
	}
}

// namedNetwork is a network with names. It has no capability "dns": containerd would hand
// the pod's own nameserver over, to be asked for what is not here.
const namedNetwork = `{` + everyVersion + `, "name": "pods", "plugins": [
	{"type": "bridge", "bridge": "berth0", "isDefaultGateway": true, "ipMasq": true, "names": true,
	 "capabilities": {"portMappings": true},
	 "ipam": {"ranges": [[{"subnet": "10.88.0.0/16"}], [{"subnet": "fd00:88::/64"}]]}}]}`

// TestContainerdNames: containerd does not write the result's dns into a pod. One whose
// dns_config names the gateway finds the others by name.
func TestContainerdNames(t *testing.T) {
	d := newDaemon(t, containerds[0], namedNetwork)
	d.dns = &cri.DNSConfig{Servers: []string{"10.88.0.1"}, Searches: []string{"pods"}}
	a, b := d.pod(t, "a", 0), d.pod(t, "b", 0)
	// Go's resolver asks nobody for a name of digits alone, which an ID may be.
	for _, name := range []string{"a", "a.pods", a.id[:12] + ".pods"} {
		answered(t, b.ask, name+":80", "a", "")
	}
	a.stop(t)
	if out, err := b.ask("tcp", "a:80"); err == nil {
		t.Errorf("pod a is gone, and answers: %s", out)
	}
	a.remove(t)
	b.stop(t)
	b.remove(t)
}

// podFails: the plugin after Berth's fails. The kubelet's next step is a new try with
// the same name; the failed one has nothing to be removed by.
func podFails(t *testing.T, d *daemon, empty sandbox.Snapshot) {
	for range 2 {
		_, err := d.runPod(t, "failing", 8080)
		if err == nil || !strings.Contains(err.Error(), "this pod is to fail") {
			t.Fatalf("want the plugin's error, got %v", err)
		}
		d.same(t, empty, "after a start that failed")
	}
	p := d.pod(t, "next", 8080) // the port is free
	answered(t, d.fromOutside, at(sandbox.HostAddr4, 8080), "next", sandbox.OutsideAddr4)
	p.stop(t)
	p.remove(t)
	d.removeAllBut(t)
}

func podsAtOnce(t *testing.T, d *daemon, _ sandbox.Snapshot) {
	const n = 8
	pods := make([]*pod, n)
	each := func(do func(i int) error) {
		t.Helper()
		errs := make([]error, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { errs[i] = do(i) })
		}
		wg.Wait()
		for i, err := range errs {
			if err != nil {
				t.Fatalf("pod %d: %v", i, err)
			}
		}
	}
	each(func(i int) (err error) {
		pods[i], err = d.runPod(t, fmt.Sprint("p", i), int32(8100+i))
		return err
	})
	seen := map[string]bool{}
	for i, p := range pods {
		if seen[p.ip4] || seen[p.ip6] {
			t.Errorf("%s or %s was given twice", p.ip4, p.ip6)
		}
		seen[p.ip4], seen[p.ip6] = true, true
		answered(t, d.fromOutside, at(sandbox.HostAddr4, 8100+i), p.name, sandbox.OutsideAddr4)
		answered(t, d.fromOutside, at(sandbox.HostAddr6, 8100+i), p.name, sandbox.OutsideAddr6)
		answered(t, pods[(i+1)%n].ask, at(p.ip6, 80), p.name, "")
	}
	ctx := deadline(t)
	each(func(i int) error {
		if _, err := d.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: pods[i].id}); err != nil {
			return err
		}
		_, err := d.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: pods[i].id})
		return err
	})
}

func podStopsTwice(t *testing.T, d *daemon, empty sandbox.Snapshot) {
	p := d.pod(t, "twice", 8080)
	p.stop(t)
	p.stop(t)
	p.remove(t)
	p.remove(t)
}

// podNamespaceGone: somebody unmounts the pod's namespace. The DEL that follows has
// an empty CNI_NETNS.
func podNamespaceGone(t *testing.T, d *daemon, _ sandbox.Snapshot) {
	p := d.pod(t, "gone", 8080)
	path := p.netns(t)
	d.mustRun("umount", "-l", path)
	d.mustRun("rm", path)
	p.stop(t)
	refused(t, d.fromOutside, at(sandbox.HostAddr4, 8080))
	p.remove(t)
}

func daemonKilled(t *testing.T, d *daemon, _ sandbox.Snapshot) {
	a, b := d.pod(t, "a", 8080), d.pod(t, "b", 8081)
	before := d.snapshot(t)
	d.kill(t)
	answered(t, d.fromOutside, at(sandbox.HostAddr4, 8080), "a", sandbox.OutsideAddr4)
	answered(t, d.fromOutside, at(sandbox.HostAddr6, 8081), "b", sandbox.OutsideAddr6)
	d.start(t)
	d.same(t, before, "after containerd's return")
	answered(t, a.ask, at(b.ip4, 80), "b", a.ip4)
	c := d.pod(t, "c", 8082)
	if c.ip4 == a.ip4 || c.ip4 == b.ip4 {
		t.Errorf("%s was given twice", c.ip4)
	}
	for _, p := range []*pod{a, b, c} {
		p.stop(t)
		p.remove(t)
	}
}

// TestContainerdKilledAtStart kills containerd while eight pods start. What it leaves
// of its own, shims' sockets and namespaces, is not Berth's.
func TestContainerdKilledAtStart(t *testing.T) {
	for _, c := range containerds {
		t.Run(c.name, func(t *testing.T) {
			d := newDaemon(t, c, podNetwork)
			first := d.pod(t, "first", 7999)
			first.stop(t)
			first.remove(t)
			look := func() sandbox.Snapshot { return d.snapshot(t).Without("file", "mount") }
			empty := look()
			for _, after := range []time.Duration{20 * time.Millisecond, 60 * time.Millisecond} {
				var wg sync.WaitGroup
				for i := range 8 {
					wg.Go(func() { _, _ = d.runPod(t, fmt.Sprint("p", i, after), int32(8100+i)) })
				}
				time.Sleep(after)
				d.kill(t)
				wg.Wait()
				d.start(t)
				d.removeAllBut(t)
				if diff := empty.Diff(look()); diff != nil {
					t.Errorf("killed after %s: the host is not as before:\n%s", after, strings.Join(diff, "\n"))
				}
			}
		})
	}
}

// TestStatus: with version 1.1.0, containerd 2 asks whether an ADD could work, and the
// kubelet sees the answer at the node.
func TestStatus(t *testing.T) {
	small := strings.Replace(podNetwork, "10.88.0.0/16", "10.88.0.0/30", 1) // the gateway and one pod
	d := newDaemon(t, containerds[1], small)
	ready := func() *cri.RuntimeCondition {
		t.Helper()
		r, err := d.Status(deadline(t), &cri.StatusRequest{})
		must(t, err)
		for _, c := range r.Status.Conditions {
			if c.Type == cri.NetworkReady {
				return c
			}
		}
		t.Fatal("no condition " + cri.NetworkReady)
		return nil
	}
	p := d.pod(t, "last", 0)
	if c := ready(); c.Status || !strings.Contains(c.Message, "no free address") {
		t.Errorf("without a free address: ready is %v, %q", c.Status, c.Message)
	}
	if _, err := d.runPod(t, "more", 0); err == nil || !strings.Contains(err.Error(), "no free address") {
		t.Errorf("want an error about the address, got %v", err)
	}
	p.stop(t)
	p.remove(t)
	if c := ready(); !c.Status {
		t.Errorf("with a free address: not ready, %q", c.Message)
	}
}

// removeAllBut removes the pods that containerd still lists, as the kubelet does.
func (d *daemon) removeAllBut(t *testing.T, keep ...*pod) {
	t.Helper()
	r, err := d.ListPodSandbox(deadline(t), &cri.ListPodSandboxRequest{})
	must(t, err)
	for _, s := range r.Items {
		if slices.ContainsFunc(keep, func(p *pod) bool { return p.id == s.Id }) {
			continue
		}
		p := &pod{daemon: d, id: s.Id}
		p.stop(t)
		p.remove(t)
	}
}
