// Package node has a host's Node in Kubernetes' API say what its network is like: that
// pods can start on it, or in an event why they cannot. It reads and writes that one object
// alone: a watch on all Nodes would bring every kubelet's news to every agent.
package node

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// Taint is for a kubelet's --register-with-taints, "berth.dev/agent-not-ready=:NoSchedule":
// no pod comes to a new node before it has its network.
const Taint = "berth.dev/agent-not-ready"

// Node is the host's.
type Node struct {
	Client *client.Client
	Name   string
	// Ready says why no pod could be attached to the network; empty: one can. It is called
	// every second at most.
	Ready func() string
	// Report, if it is given, is told what Ready says, again and again; what keeps pods from
	// being attached only when it has done so for Patience.
	Report func(ctx context.Context, why string) error
	// Patience is for how long no pod could be attached before an event and Report say so:
	// an agent takes a while to start.
	Patience time.Duration
	Log      *slog.Logger

	events events
	failed string // the last error, to log it once
}

// The parts of a Node that are looked at.
type object struct {
	Metadata client.Meta `json:"metadata"`
	Spec     struct {
		Taints []taint `json:"taints"`
	} `json:"spec"`
	Status struct {
		Conditions []condition `json:"conditions"`
	} `json:"status"`
}

// taint has all that one can have: the list is replaced as a whole.
type taint struct {
	Key    string     `json:"key"`
	Value  string     `json:"value,omitempty"`
	Effect string     `json:"effect"`
	Added  *time.Time `json:"timeAdded,omitempty"`
}

type condition struct {
	Type    string    `json:"type"`
	Status  string    `json:"status"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Changed time.Time `json:"lastTransitionTime"`
	Beat    time.Time `json:"lastHeartbeatTime"`
}

// networkUnavailable is what a cloud's controller may set on a new node, where it believes
// that routes of its own are wanted.
const networkUnavailable = "NetworkUnavailable"

const (
	tick   = time.Second      // until the Node has been told
	settle = 10 * time.Second // how often it is looked whether that is still so
	again  = time.Minute      // how often the Node is read: it may have been made anew
)

// Run keeps the Node told until the context ends.
func (n *Node) Run(ctx context.Context) {
	n.events = events{node: n}
	var told time.Time
	for ctx.Err() == nil {
		why := n.Ready()
		n.events.see(ctx, why, time.Now())
		if n.Report != nil && (why == "" || n.events.lasts(time.Now())) {
			if err := n.Report(ctx, why); err != nil {
				n.Log.Debug("report on the node's network", "error", err)
			}
		}
		pause := tick
		switch {
		case why != "":
			told = time.Time{}
		case time.Since(told) < again:
			pause = settle
		default:
			err := n.tell(ctx)
			n.say(ctx, err)
			if err == nil {
				told, pause = time.Now(), settle
			} else {
				pause = max(settle, client.RetryAfter(err))
				if client.IsConflict(err) {
					pause = tick
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

func (n *Node) say(ctx context.Context, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != n.failed && text != "" && ctx.Err() == nil && !client.IsConflict(err) {
		n.Log.Warn("tell Kubernetes that this node's network is ready", "node", n.Name, "error", err)
	}
	n.failed = text
}

// tell takes the taint off the Node, and says of a condition that a cloud has set that it
// is not so. It does nothing when neither is there.
func (n *Node) tell(ctx context.Context) error {
	var o object
	if err := n.Client.Get(ctx, client.Nodes.Path(n.Name), &o); err != nil {
		return fmt.Errorf("read Node: %w", err)
	}
	if slices.ContainsFunc(o.Spec.Taints, ours) {
		left := slices.DeleteFunc(o.Spec.Taints, ours)
		patch := map[string]any{
			"metadata": map[string]any{"resourceVersion": o.Metadata.Version}, // or a taint that comes now would be lost
			"spec":     map[string]any{"taints": left},
		}
		if err := n.Client.Patch(ctx, client.Nodes.Path(n.Name), client.Merge, patch, nil); err != nil {
			return fmt.Errorf("remove taint %s: %w", Taint, err)
		}
		n.Log.Info("pods can come to this node", "node", n.Name, "removed-taint", Taint)
	}
	i := slices.IndexFunc(o.Status.Conditions, func(c condition) bool { return c.Type == networkUnavailable })
	if i < 0 || o.Status.Conditions[i].Status == "False" {
		return nil
	}
	now := time.Now().UTC().Truncate(time.Second)
	is := condition{networkUnavailable, "False", "BerthIsReady", "pods are attached by Berth", now, now}
	patch := map[string]any{"status": map[string]any{"conditions": []condition{is}}}
	if err := n.Client.Patch(ctx, client.Nodes.Path(n.Name, "status"), client.StrategicMerge, patch, nil); err != nil {
		return fmt.Errorf("set condition %s: %w", networkUnavailable, err)
	}
	n.Log.Info("the node's network is not unavailable any more", "node", n.Name, "reason", o.Status.Conditions[i].Reason)
	return nil
}

func ours(t taint) bool { return t.Key == Taint }
