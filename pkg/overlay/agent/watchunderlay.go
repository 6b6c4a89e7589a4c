package agent

import (
	"context"

	"github.com/vishvananda/netlink"
)

// watchUnderlay has the underlay looked at again soon after an address of the host
// changed.
func (a *Agent) watchUnderlay(ctx context.Context) {
	changes := make(chan netlink.AddrUpdate, 64)
	if err := netlink.AddrSubscribe(changes, ctx.Done()); err != nil {
		a.Log.Warn("watch the host's addresses; they are looked at now and then", "error", err)
		return
	}
	for range changes {
		sleep(ctx, settle)
		for range len(changes) { // what came meanwhile is the same change
			<-changes
		}
		a.do(ctx, a.checkUnderlay)
	}
}
