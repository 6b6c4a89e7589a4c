package runtimes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// contestants are what a pod's start is measured with: Berth, the reference chain
// that does the same, and a plugin that does nothing.
var contestants = []network{
	{"berth", podNetwork},
	{"reference", `{"cniVersion": "1.0.0", "name": "reference", "plugins": [
	{"type": "reference-bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
	 "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.89.0.0/16"}], [{"subnet": "fd00:89::/64"}]],
	          "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
	{"type": "portmap", "capabilities": {"portMappings": true}},
	{"type": "firewall"}]}`},
	{"nothing", `{"cniVersion": "1.0.0", "name": "nothing", "plugins": [{"type": "noop"}]}`},
}

// BenchmarkPod starts, stops and removes a pod with a TCP and a UDP host port. It
// reports the medians of each, in milliseconds: -benchtime=10x is enough.
func BenchmarkPod(b *testing.B) {
	for _, c := range containerds {
		d := newDaemon(b, c, podNetwork, contestants...)
		ref, err := sandbox.References()
		must(b, err)
		must(b, os.Symlink(filepath.Join(ref, "bridge"), filepath.Join(d.plugins, "reference-bridge")))
		out, err := exec.Command("go", "build", "-o", d.plugins, "../bench/noop").CombinedOutput()
		if err != nil {
			b.Fatalf("build noop: %v\n%s", err, out)
		}
		for _, n := range contestants {
			b.Run(c.name+"/"+n.handler, func(b *testing.B) { d.benchmark(b, n.handler) })
		}
	}
}

func (d *daemon) benchmark(b *testing.B, handler string) {
	ctx := b.Context()
	var start, stop, remove []time.Duration
	for i := range b.N {
		began := time.Now()
		made, err := d.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: d.podConfig(fmt.Sprint(handler, b.N, "-", i), 8080), RuntimeHandler: handler})
		must(b, err)
		started := time.Now()
		_, err = d.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: made.PodSandboxId})
		must(b, err)
		stopped := time.Now()
		_, err = d.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: made.PodSandboxId})
		must(b, err)
		start, stop, remove = append(start, started.Sub(began)), append(stop, stopped.Sub(started)), append(remove, time.Since(stopped))
	}
	for what, all := range map[string][]time.Duration{"start": start, "stop": stop, "remove": remove} {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, what+"-ms")
	}
}
