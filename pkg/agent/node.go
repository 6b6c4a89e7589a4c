package agent

import (
	"cmp"
	"context"
	"time"

	"github.com/berth-cni/berth/pkg/firewall"
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
	if r, ok := c.Store.(interface {
		Report(ctx context.Context, why string) error
	}); ok {
		n.Report = r.Report
	}
	n.Run(ctx)
	return nil
}

// filterBridged keeps frames between ports of bridges within the firewall's sight, if that is
// wanted.
func (c *Config) filterBridged(ctx context.Context) error {
	if !c.BridgeNetfilter {
		<-ctx.Done()
		return nil
	}
	const often = 30 * time.Second
	said := ""
	for tick := time.NewTicker(often); ; {
		changed, err := firewall.FilterBridged()
		switch {
		case err != nil && err.Error() != said:
			said = err.Error()
			c.Log.Error("have bridged frames pass the firewall", "error", err)
		case err == nil && changed:
			c.Log.Info("bridged frames pass the firewall (br_netfilter)")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return nil
		}
	}
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
