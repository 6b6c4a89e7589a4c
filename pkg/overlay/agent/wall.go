package agent

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/probe"
)

// wall is the overlay's part of the host's firewall: VXLAN packets of peers alone
// come in, and what the networks are to other networks.
type wall struct {
	a       *Agent
	backend string
	next    time.Time // of comparing
	failed  bool      // the last comparison
	tidy    bool      // the other backend has been looked at
}

// share is the part of the time that comparing the firewall may take, one in so many,
// beside the moments at which the kernel says that somebody changed it.
const share = 200

func newWall(a *Agent) (*wall, error) {
	backend, err := firewall.Choose(a.FirewallBackend)
	if err != nil {
		return nil, err
	}
	return &wall{a: a, backend: backend}, nil
}

// sync compares the firewall with what is wanted.
func (w *wall) sync() {
	if !w.a.trusts() {
		return
	}
	start := time.Now()
	var tunnels []firewall.Tunnel
	var ports []int
	for _, name := range w.a.names() {
		n := w.a.nets[name]
		if n.plane == nil {
			continue
		}
		def := n.def()
		t := firewall.Tunnel{
			Device: def.Device(), Bridge: def.Bridge(), Port: def.Port, VNI: def.VNI,
			Internal: def.Internal, Isolate: def.Isolate, NoICC: def.NoICC,
		}
		for p := range n.plane.Peers() {
			t.Peers = append(t.Peers, p.Underlay)
		}
		tunnels = append(tunnels, t)
		if !slices.Contains(ports, def.Port) {
			ports = append(ports, def.Port)
		}
	}
	all := func(ctx context.Context) ([]*attach.Attachment, error) {
		list, err := w.a.Records.List(ctx, "")
		if errors.Is(err, attach.ErrUnreadable) {
			err = nil // one that cannot be read does not keep the others' from being restored
		}
		return list, err
	}
	if w.a.Probe && len(ports) > 0 {
		ports = append(ports, probe.Port)
	}
	err := errors.Join(firewall.SyncTunnels(w.a.ctx, w.backend, tunnels, all), firewall.Admit(w.a.ctx, ports))
	if !w.tidy && w.backend == firewall.NFTables {
		w.tidy = true // once: iptables is a program to run
		err = errors.Join(err, firewall.ForgetIPTables(w.a.ctx, all))
	}
	if err != nil {
		w.a.Log.Error("program the firewall", "error", err)
	}
	w.failed = err != nil
	w.next = time.Now().Add(share * time.Since(start))
}

// stop ends that other firewalls let a network's packets through, for which its containers'
// ADDs have seen.
func (w *wall) stop(def *overlay.Network) error {
	return (&firewall.Forward{Bridge: def.Bridge(), Tunnel: def.Device()}).Remove(w.a.ctx)
}

func (w *wall) tick() {
	if w.failed || time.Now().After(w.next) {
		w.sync()
	}
}

// addPeer accepts a peer's packets.
func (w *wall) addPeer(n *network, addr netip.Addr) {
	w.change(firewall.AddPeer(n.def().Port, n.def().VNI, addr))
}

// removePeer drops the packets of what was a peer's address, unless another peer has
// it.
func (w *wall) removePeer(n *network, addr netip.Addr) {
	for p := range n.plane.Peers() {
		if p.Underlay == addr {
			return
		}
	}
	w.change(firewall.RemovePeer(n.def().Port, n.def().VNI, addr))
}

func (w *wall) change(err error) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		w.sync()
	case err != nil:
		w.a.Log.Error("program the firewall for a peer", "error", err)
		w.failed = true // the next tick compares
	}
}

// watchFirewall has the firewall put back as soon as somebody flushed it.
func (a *Agent) watchFirewall(ctx context.Context) {
	changes, err := firewall.Watch(ctx)
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
