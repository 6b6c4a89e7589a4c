package agent

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/firewall/allow"
	"github.com/berth-cni/berth/pkg/firewall/watch"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/probe"
	"github.com/berth-cni/berth/pkg/overlay/vxlan"
)

// hostFirewall is the overlay's part of the host's firewall: VXLAN packets of peers alone
// come in, and what the networks are to other networks.
type hostFirewall struct {
	a       *Agent
	backend string
	next    time.Time // of comparing
	failed  bool      // the last comparison
	why     string    // it has failed; empty: it has not
	tidy    bool      // what the other backend left is, or is being, taken away
}

// share is the part of the time that comparing the firewall may take, one in so many,
// beside the moments at which the kernel says that somebody changed it.
const share = 200

func newHostFirewall(a *Agent) (*hostFirewall, error) {
	backend, err := firewall.Choose(a.FirewallBackend)
	if err != nil {
		return nil, err
	}
	return &hostFirewall{a: a, backend: backend}, nil
}

// sync compares the firewall with what is wanted.
func (f *hostFirewall) sync() {
	if !f.a.trusts() {
		return
	}
	start := time.Now()
	var tunnels []firewall.Tunnel
	var ports []int
	for _, name := range f.a.names() {
		n := f.a.nets[name]
		if n.plane == nil {
			continue
		}
		def := n.def()
		t := firewall.Tunnel{
			Device: def.Device(), Bridge: def.Bridge(), Port: def.Port, VNI: def.VNI, // an encrypted network has no port of VXLAN's
			Internal: def.Internal, Isolate: def.Isolate, NoICC: def.NoICC,
		}
		for p := range n.plane.Peers() {
			if !def.Encrypted {
				t.Peers = append(t.Peers, vtep(p))
			}
		}
		tunnels = append(tunnels, t)
		if n.detour != nil {
			t.Device = def.NextDevice()
			tunnels, ports = append(tunnels, t), append(ports, def.NextPort())
		}
		if port := def.UDPPort(); !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	if f.a.Probe && len(ports) > 0 {
		ports = append(ports, probe.Port)
	}
	err := errors.Join(firewall.SyncTunnels(f.a.ctx, f.backend, tunnels, f.records), allow.VXLAN(f.a.ctx, ports),
		firewall.SyncConfined(f.a.ctx, f.a.confined()))
	if err != nil {
		f.a.Log.Error("program the firewall", "error", err)
	}
	f.failed, f.why = err != nil, ""
	if f.failed {
		f.why = err.Error()
	}
	f.next = time.Now().Add(share * time.Since(start))
}

// records are those of all attachments.
func (f *hostFirewall) records(ctx context.Context) ([]*attach.Attachment, error) {
	list, err := f.a.Records.List(ctx, "")
	if errors.Is(err, attach.ErrUnreadable) {
		err = nil // one that cannot be read does not keep the others' from being restored
	}
	return list, err
}

// forget takes away what an agent left that used the other backend: once, beside the loop and
// when the host is ready, since iptables is a program to run, some times.
func (f *hostFirewall) forget() {
	if f.tidy || f.backend != firewall.NFTables || !f.a.trusts() || f.a.notReady() != "" {
		return
	}
	f.tidy = true
	f.a.workers.Go(func() {
		if err := firewall.ForgetIPTables(f.a.ctx, f.records); err != nil && f.a.ctx.Err() == nil {
			f.a.Log.Error("program the firewall", "error", err)
		}
	})
}

// stop ends that other firewalls let a network's packets through, for which its containers'
// ADDs have seen.
func (f *hostFirewall) stop(def *overlay.Network) error {
	routed := &allow.Forward{Group: attach.Group(def.Name)}
	return errors.Join((&allow.Forward{Bridge: def.Bridge(), Tunnel: def.Device()}).Remove(f.a.ctx), routed.Remove(f.a.ctx))
}

func (f *hostFirewall) tick() {
	f.forget()
	if f.failed || time.Now().After(f.next) {
		f.sync()
	}
}

// addPeer accepts a peer's packets.
func (f *hostFirewall) addPeer(n *network, p vxlan.Peer) {
	if n.def().Encrypted {
		return
	}
	f.change(firewall.AddPeer(n.def().Port, n.def().VNI, vtep(p)))
}

// removePeer drops the packets of what was a peer, or a part of one, but for what the
// plane's peers are allowed.
func (f *hostFirewall) removePeer(n *network, p vxlan.Peer) {
	if n.def().Encrypted {
		return
	}
	var others []firewall.VTEP
	for other := range n.plane.Peers() {
		if other.Underlay == p.Underlay {
			others = append(others, vtep(other))
		}
	}
	f.change(firewall.RemovePeer(n.def().Port, n.def().VNI, vtep(p), others))
}

func vtep(p vxlan.Peer) firewall.VTEP { return firewall.VTEP{Address: p.Underlay, Blocks: p.Blocks} }

func (f *hostFirewall) change(err error) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.sync()
	case err != nil:
		f.a.Log.Error("program the firewall for a peer", "error", err)
		f.failed = true // the next tick compares
	}
}

// watchFirewall has the firewall put back as soon as somebody flushed it.
func (a *Agent) watchFirewall(ctx context.Context) {
	changes, err := watch.Rules(ctx)
	if err != nil {
		a.Log.Warn("watch the firewall; it is compared now and then", "error", err)
		return
	}
	for range changes {
		a.do(ctx, func() {
			a.Log.Info("the firewall was changed by somebody else: comparing")
			a.fw.sync()
		})
	}
}
