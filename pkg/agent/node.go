package agent

import (
	"cmp"
	"context"
	"time"

	overlayagent "github.com/berth-cni/berth/pkg/overlay/agent"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/node"
)

// patience is for how long a node's network may be unusable before an event says so.
const patience = 30 * time.Second

// tellNode has the Node in Kubernetes' API say whether pods can be attached here.
func (c *Config) tellNode(ctx context.Context, part overlayagent.Statuser) error {
	if c.Kubernetes == nil {
		<-ctx.Done()
		return nil
	}
	n := node.Node{Client: c.Kubernetes, Name: c.Node, Patience: patience, Log: c.Log, Ready: func() string { return c.podsWait(part.Status()) }}
	n.Run(ctx)
	return nil
}

// podsWait is why no pod can be attached: by the network of those that ask for no other,
// where that is known, else by all of them.
func (c *Config) podsWait(s overlayagent.Status) string {
	for _, n := range s.Networks {
		if n.Name == c.DefaultNetwork {
			return n.Why
		}
	}
	if s.Ready {
		return ""
	}
	return cmp.Or(s.Why, "the agent is starting")
}
