package agent

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/filewatch"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/overlay"
)

// What the plugin leases from the host's blocks is in the attachments' store.

// checkUsage counts the leases of each block, so that another one is claimed in time.
func (a *Agent) checkUsage() {
	a.forgetRejected()
	a.use(a.countLeases(a.ownedBlocks()))
}

// recount is checkUsage beside the loop, which must not wait for a plugin that holds
// the attachments' store.
func (a *Agent) recount() {
	a.forgetRejected()
	if a.counting {
		return
	}
	a.counting = true
	blocks := a.ownedBlocks()
	a.workers.Go(func() {
		used, err := a.countLeases(blocks)
		a.do(a.ctx, func() {
			a.counting = false
			a.use(used, err)
			a.claimAll()
		})
	})
}

func (a *Agent) ownedBlocks() (all []overlay.BlockKey) {
	for name, n := range a.nets {
		for _, b := range n.local.Blocks {
			all = append(all, overlay.BlockKey{Network: name, Prefix: b})
		}
	}
	return all
}

func (a *Agent) countLeases(blocks []overlay.BlockKey) (map[overlay.BlockKey]int, error) {
	used := map[overlay.BlockKey]int{}
	err := a.Records.View(a.ctx, func(tx *attach.Tx) error {
		for _, b := range blocks {
			used[b] = tx.Leased(b.Network, b.Prefix)
		}
		return nil
	})
	return used, err
}

func (a *Agent) use(used map[overlay.BlockKey]int, err error) {
	if err != nil {
		a.Log.Warn("count leases", "error", err)
		return
	}
	for b, count := range used {
		if n := a.nets[b.Network]; n != nil {
			n.used[b.Prefix] = count
		}
	}
}

// checkLost gives the routes of lost blocks free that no container here uses any more.
func (a *Agent) checkLost() {
	for _, name := range a.names() {
		n := a.nets[name]
		for _, b := range n.local.Lost {
			if used, err := a.leased(name, b); err == nil && used == 0 && !n.gone {
				a.reconcile()
				return
			}
		}
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
	if n := a.nets[network]; err == nil && len(all) == 0 && n != nil && !a.shared(n) {
		ports, err := link.Ports(n.def().Bridge()) // whose records are lost
		if err != nil {
			return 0, err
		}
		grouped, err := link.Grouped(attach.Group(network))
		return ports + grouped, err
	}
	return len(all), err
}

// settle is how long something may go on changing before it is looked at, and how long
// apart two looks are.
const settle = 200 * time.Millisecond

// watchRecords has the usage counted soon after containers come and go.
func (a *Agent) watchRecords(ctx context.Context) {
	err := os.MkdirAll(a.StateDir, 0o700)
	if err == nil {
		err = filewatch.Watch(ctx, settle, func() { a.do(ctx, a.recount) }, filepath.Join(a.StateDir, "berth.db"))
	}
	if err != nil && ctx.Err() == nil {
		a.Log.Warn("watch the attachments; they are counted at every comparison", "error", err)
	}
}
