package agent

import (
	"context"
	"time"

	"github.com/berth-cni/berth/pkg/overlay/vxlan"
)

// calm is how long somebody who changes the kernel is left to it before it is
// compared: a restarted network manager makes many changes.
const calm = 50 * time.Millisecond

// watchKernel has a network compared as soon as somebody else changed what is ours.
func (a *Agent) watchKernel(ctx context.Context) {
	for ctx.Err() == nil {
		err := a.host.Watch(ctx, func(p *vxlan.Plane, why string) {
			a.workers.Go(func() {
				sleep(ctx, calm)
				a.do(ctx, func() { a.contradicted(p, why) })
			})
		})
		if err != nil {
			a.Log.Warn("watch the kernel; it is compared now and then", "error", err)
			sleep(ctx, jitter(5*time.Second))
		}
	}
}

func (a *Agent) contradicted(p *vxlan.Plane, why string) {
	for _, name := range a.names() {
		n := a.nets[name]
		if n.detour != nil && n.detour.plane == p {
			a.rotate()
		}
		if n.plane == p {
			a.Log.Info("somebody else changed the kernel", "network", name, "what", why)
			a.repair(n)
		}
	}
}
