package agent

import (
	"context"
	"errors"
	"net/netip"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/overlay"
)

// What the plugin leases from the host's blocks is in the attachments' store.

// checkUsage counts the leases of each block, so that another one is claimed in time.
func (a *Agent) checkUsage() {
	a.forgetRejected()
	err := a.Records.View(a.ctx, func(tx *attach.Tx) error {
		for name, n := range a.nets {
			for _, b := range n.local.Blocks {
				n.used[b] = tx.Leased(name, b)
			}
		}
		return nil
	})
	if err != nil {
		a.Log.Warn("count leases", "error", err)
	}
}

func (a *Agent) leased(network string, b netip.Prefix) (count int, err error) {
	err = a.Records.View(a.ctx, func(tx *attach.Tx) error {
		count = tx.Leased(network, b)
		return nil
	})
	return count, err
}

// attached counts the containers on a network.
func (a *Agent) attached(network string) (int, error) {
	all, err := a.Records.List(a.ctx, network)
	return len(all), err
}

// forget removes what is left of a network without containers: the bridge, the
// firewall's part, and what the host knows.
func (a *Agent) forget(n *network) error {
	def := n.def()
	if err := link.Delete(def.Bridge()); err != nil {
		return err
	}
	if err := errors.Join(firewall.RemoveNetwork(a.ctx, a.fw.backend, def.Bridge()), a.fw.stop(def.Bridge())); err != nil {
		return err
	}
	err := a.Records.Update(a.ctx, func(tx *attach.Tx) error { return tx.ForgetNetwork(def.Name) })
	if err != nil {
		return err
	}
	return overlay.RemoveLocal(a.DataDir, def.Name)
}

// watchRecords has the usage counted soon after containers come and go.
func (a *Agent) watchRecords(ctx context.Context) {
	err := watchFile(ctx, a.StateDir, "berth.db", func() {
		a.do(ctx, func() {
			a.checkUsage()
			a.claimAll()
		})
	})
	if err != nil && ctx.Err() == nil {
		a.Log.Warn("watch the attachments; they are counted at every comparison", "error", err)
	}
}
