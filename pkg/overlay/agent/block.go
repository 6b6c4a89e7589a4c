package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
)

// claimKey is one claim on its way: of a subnet of a network.
type claimKey struct {
	network string
	subnet  int
}

const (
	claimTimeout = 10 * time.Second
	lowWater     = 4 // another block is claimed when less than one in so many addresses is free
)

// ownBlocks finds the host's blocks of a network: those of the store where it is
// known and knows us, and those that the host had and nobody else has since.
func (a *Agent) ownBlocks(n *network) {
	if !a.fresh || !a.registered {
		return
	}
	def := n.def()
	mine := a.state.BlocksOf(def.Name, a.id.Node)
	if a.state.Nodes[a.id.Node].Token != a.id.Token {
		mine = nil
	}
	lost := n.local.Lost
	n.local.Lost = nil
	for _, b := range slices.Concat(n.local.Blocks, lost) {
		owner, taken := a.state.Blocks[overlay.BlockKey{Network: def.Name, Prefix: b}]
		switch {
		case slices.Contains(mine, b) || !def.Contains(b):
		case slices.Contains(lost, b) || taken && owner.Node != a.id.Node:
			if !slices.Contains(lost, b) {
				a.Log.Error("a block of this host was given to another one", "network", def.Name, "block", b, "node", owner.Node)
			}
			if used, err := a.leased(def.Name, b); err != nil || used > 0 {
				n.local.Lost = append(n.local.Lost, b)
			}
		default: // the watch is behind, or the store has lost it
			mine = append(mine, b)
		}
	}
	slices.SortFunc(mine, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	n.local.Blocks = mine
}

// claimAll claims what the host needs: a block of each subnet, another one before
// they are full, and what it has and the store does not know of.
func (a *Agent) claimAll() {
	if !a.fresh || !a.registered || a.away.err != nil {
		return
	}
	for _, name := range a.names() {
		n := a.nets[name]
		if n.gone || n.local.Refused != "" || !a.replica.Has(n.def()) {
			continue
		}
		if n.def().PodCIDRs {
			a.claimGiven(n)
		} else {
			for i, subnet := range n.def().Subnets {
				a.claimSubnet(n, i, subnet)
			}
		}
		for _, b := range n.local.Blocks {
			key := overlay.BlockKey{Network: name, Prefix: b}
			if _, rejected := a.rejected[key]; rejected { // asked again some minutes later
				continue
			}
			stored, ok := a.state.Blocks[key]
			if !ok || stored.Token != a.id.Token || stored.Used != (n.used[b] > 0) {
				a.claim(n, slices.IndexFunc(n.def().Subnets, b.Overlaps), b)
			}
		}
	}
}

func (a *Agent) claimSubnet(n *network, i int, subnet netip.Prefix) {
	def := n.def()
	size, used := 0.0, 0
	for _, b := range n.local.Blocks {
		if subnet.Overlaps(b) {
			size += addressesOf(b)
			used += n.used[b]
		}
	}
	if size-float64(used) > size/lowWater {
		return
	}
	taken := a.state.Taken(def.Name)
	p, err := def.ChooseBlock(i, a.id.Node, func(p netip.Prefix) bool {
		_, rejected := a.rejected[overlay.BlockKey{Network: def.Name, Prefix: p}]
		return rejected || taken(p) || slices.Contains(n.local.Blocks, p)
	})
	if err != nil {
		if len(n.local.Blocks) == 0 || size-float64(used) < 1 {
			n.problem = err.Error()
		}
		a.Log.Debug("claim a block", "network", def.Name, "error", err)
		return
	}
	a.claim(n, i, p)
}

// claimGiven claims the blocks that the cluster gives this node, one of each subnet, once
// it does.
func (a *Agent) claimGiven(n *network) {
	key, def, lacks := claimKey{n.def().Name, -1}, *n.def(), n.lacks()
	if a.pending[key] || len(lacks) == 0 {
		return
	}
	a.pending[key] = true
	a.workers.Go(func() {
		ctx, cancel := context.WithTimeout(a.ctx, claimTimeout)
		defer cancel()
		all, err := given(ctx, a.Store, a.id.Node, &def, lacks)
		a.do(a.ctx, func() {
			if err != nil {
				n.problem = strings.ReplaceAll(err.Error(), "\n", "; ")
			}
			for _, p := range all {
				if _, rejected := a.rejected[overlay.BlockKey{Network: def.Name, Prefix: p}]; rejected {
					n.problem = fmt.Sprintf("Kubernetes gives this node %s, which another node has: see its BerthBlock", p)
					continue
				}
				a.claim(n, slices.IndexFunc(def.Subnets, p.Overlaps), p)
			}
		})
		sleep(a.ctx, jitter(2*time.Second))
		a.do(a.ctx, func() { delete(a.pending, key) })
	})
}

// given are the blocks of subnets that the store's cluster gives a node; the error is about
// those that it does not.
func given(ctx context.Context, s overlay.Store, node string, def *overlay.Network, subnets []netip.Prefix) (blocks []netip.Prefix, err error) {
	giver, ok := s.(overlay.Giver)
	if !ok {
		return nil, errors.New("the network's blocks are what Kubernetes gives its Nodes, and the store is none of Kubernetes")
	}
	all, err := giver.Given(ctx, node)
	if err != nil {
		return nil, err
	}
	for _, s := range subnets {
		i := slices.IndexFunc(all, s.Overlaps)
		switch {
		case i < 0:
			err = errors.Join(err, fmt.Errorf("this node gets no block of %s: its Node's spec.podCIDRs are %v", s, all))
		case !def.Contains(all[i]):
			err = errors.Join(err, fmt.Errorf("this node is given %s, which is no block of the network: those of %s have %d bits (nodePrefix)",
				all[i], s, def.NodePrefix[slices.Index(def.Subnets, s)]))
		default:
			blocks = append(blocks, all[i])
		}
	}
	return blocks, err
}

// addressesOf is how many containers a block has room for.
func addressesOf(b netip.Prefix) float64 {
	bits := b.Addr().BitLen() - b.Bits()
	taken := 2.0 // the network's and the gateway's
	if b.Addr().Is4() {
		taken++ // broadcast
	}
	return float64(uint64(1)<<min(bits, 62)) - taken
}

// claim asks the store for a block, beside the loop.
func (a *Agent) claim(n *network, i int, p netip.Prefix) {
	key := claimKey{n.def().Name, i}
	if a.pending[key] {
		return
	}
	a.pending[key] = true
	b := overlay.Block{Network: key.network, Prefix: p, Node: a.id.Node, Token: a.id.Token, Used: n.used[p] > 0}
	a.workers.Go(func() {
		ctx, cancel := context.WithTimeout(a.ctx, claimTimeout)
		defer cancel()
		err := a.Store.Claim(ctx, b)
		if err != nil && !errors.Is(err, overlay.ErrTaken) && !errors.Is(err, overlay.ErrReadOnly) {
			sleep(a.ctx, jitter(2*time.Second))
		}
		a.do(a.ctx, func() { a.claimed(key, b, err) })
	})
}

func (a *Agent) claimed(key claimKey, b overlay.Block, err error) {
	delete(a.pending, key)
	n := a.nets[key.network]
	switch {
	case errors.Is(err, overlay.ErrTaken), errors.Is(err, overlay.ErrReadOnly): // a file gives what it gives
		a.rejected[b.Key()] = time.Now()
	case err != nil:
		a.Log.Warn("claim a block", "network", key.network, "block", b.Prefix, "error", err)
		return // the next tick tries again
	case n != nil:
		a.count.claims++
		a.state.Apply(overlay.Update{Blocks: []overlay.Block{b}})
		a.saved.dirty = true
		if !slices.Contains(n.local.Blocks, b.Prefix) {
			a.Log.Info("block claimed", "network", key.network, "block", b.Prefix)
			n.local.Blocks = append(n.local.Blocks, b.Prefix)
			a.ensure(key.network, a.state.Conflicts()[key.network])
			a.fw.sync()
		}
	}
	a.claimAll()
}

// forgetRejected has blocks tried again that others had, some minutes ago.
func (a *Agent) forgetRejected() {
	for k, at := range a.rejected {
		if time.Since(at) > 5*time.Minute {
			delete(a.rejected, k)
		}
	}
}
