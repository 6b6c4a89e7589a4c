package graph

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/agent"
	"github.com/berth-cni/berth/pkg/overlay/replica"
)

// overlays are the overlay networks of this host, from its own files; and from the
// agent, when it answers, whether the other hosts are reached.
func (c *Config) overlays(ctx context.Context) ([]Overlay, error) {
	locals, err := overlay.ListLocal(c.DataDir)
	if len(locals) == 0 {
		return nil, err
	}
	state := overlay.NewState()
	said, stateErr := replica.Read(c.DataDir)
	if errors.Is(stateErr, fs.ErrNotExist) {
		stateErr = nil
	}
	state.Apply(said)
	status, statusErr := agent.Ask(ctx, c.Listen)
	if runs, _ := overlay.AgentRuns(c.Store.Dir()); !runs {
		statusErr = nil // nobody expects an answer
	}
	var all []Overlay
	for _, l := range locals {
		all = append(all, overlayView(l, state, status))
	}
	return all, errors.Join(err, stateErr, statusErr)
}

// overlayView is one network. status is nil when the agent does not answer.
func overlayView(l *overlay.Local, state *overlay.State, status *agent.Status) Overlay {
	n := &l.Network
	o := Overlay{Name: n.Name, VNI: n.VNI, Port: n.UDPPort(), Device: n.Device(), Bridge: n.Bridge(), Internal: n.Internal,
		Blocks: l.Blocks, Problem: l.Refused}
	failing := map[string]string{}
	if status != nil {
		o.Underlay = status.Underlay.Device
		for _, s := range status.Networks {
			if s.Name != n.Name {
				continue
			}
			o.Problem = cmp.Or(o.Problem, s.Problem)
			for _, f := range s.Probes.Failing {
				failing[f.Peer] = cmp.Or(failing[f.Peer], f.Verdict)
			}
			if s.Probes.OK == 0 && len(s.Probes.Failing) == 0 {
				status = nil // nobody has tried
			}
		}
	}
	for node, blocks := range state.Owners(n.Name) {
		if node == l.Node {
			continue
		}
		r := Remote{Name: node, Address: state.Nodes[node].Address, Blocks: blocks}
		if verdict, bad := failing[node]; bad {
			r.Reach, r.Bad = verdict, true
		} else if status != nil {
			r.Reach = "reached"
		}
		o.Peers = append(o.Peers, r)
	}
	slices.SortFunc(o.Peers, func(a, b Remote) int { return cmp.Compare(a.Name, b.Name) })
	return o
}
