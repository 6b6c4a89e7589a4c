package agent

import (
	"errors"
	"fmt"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/overlay"
)

// conflictHere tells whether another network is in the way of one on this host alone: it
// has the devices, with containers on them, until they are gone.
func (a *Agent) conflictHere(def *overlay.Network) error {
	for _, name := range a.names() {
		n := a.nets[name]
		if name == def.Name || !n.gone && n.plane == nil {
			continue
		}
		err := def.Conflict(n.def())
		switch {
		case err != nil && n.gone:
			return fmt.Errorf("%w, which was removed and has containers on this host", err)
		case err != nil:
			return fmt.Errorf("%w, which this host uses", err)
		}
	}
	return nil
}

// yield gives the devices of a network that is in another's way back, once no container
// of this host is on it.
func (a *Agent) yield(n *network) {
	if n.plane == nil || !a.fresh || a.holds(n.def().Name) {
		return
	}
	if err := n.plane.Delete(); err != nil {
		a.Log.Error("remove the VXLAN device", "network", n.def().Name, "error", err)
	}
	n.plane = nil
	a.dropDetour(n)
	a.probes.forget(n.def().Name)
}

// holds tells whether containers of this host are attached to a network; also when that
// cannot be known.
func (a *Agent) holds(network string) bool {
	attached, err := a.attached(network)
	return err != nil || attached > 0
}

// goesOn says what becomes of a network that was removed without force.
func (a *Agent) goesOn(n *network, removal overlay.Removal) string {
	attached, err := a.attached(n.def().Name)
	if err != nil {
		return fmt.Sprintf("it was %s; containers that are still attached on this host go on", removal)
	}
	return fmt.Sprintf("it was %s, %d containers are still attached on this host: it goes on until the last one has left", removal, attached)
}

// removedFromStore is why a network is refused that is kept for its containers. It
// outlives a restart.
const removedFromStore = "it was removed from the store"

// remove takes a network away that was removed: by force, or without containers on this
// host. What containers still use stays until they are gone: their bridge, and the
// knowledge of it.
func (a *Agent) remove(name string) {
	n := a.nets[name]
	if !n.gone {
		a.Log.Info("network removed", "network", name, "id", n.def().ID)
	}
	n.gone = true
	if n.plane != nil {
		if err := n.plane.Delete(); err != nil {
			a.Log.Error("remove the VXLAN device", "network", name, "error", err)
		}
		n.plane = nil
	}
	a.dropDetour(n)
	a.probes.forget(name)
	attached, err := a.attached(name)
	if err != nil || attached > 0 {
		n.local.Refused = removedFromStore
		n.problem = fmt.Sprintf("it was removed from the store, with %d containers attached on this host", attached)
		if r, ok := a.replica.Removal(n.def()); ok {
			n.problem = fmt.Sprintf("it was %s, with %d containers attached on this host", r, attached)
		}
		if err := errors.Join(err, n.local.Write(a.DataDir)); err != nil {
			a.Log.Error("remove network", "network", name, "error", err)
		}
		return
	}
	// Not before the last container is gone: runtimes read it for their DEL.
	if err := errors.Join(a.removeConflist(n), a.forget(n)); err != nil {
		a.Log.Error("remove network", "network", name, "error", err)
	}
	delete(a.nets, name)
}

// dropOld removes what was kept for containers that are gone by now, and makes the
// network that has the name, or the devices, since.
func (a *Agent) dropOld() {
	if u := a.replica.Again(); a.fresh && len(u.Networks)+len(u.GoneNetworks) > 0 {
		a.follow(u)
	}
	for _, name := range a.names() {
		n := a.nets[name]
		if removal, ok := a.replica.Removal(n.def()); ok && !n.gone {
			n.problem = a.goesOn(n, removal)
		}
		if !n.gone {
			continue
		}
		if a.remove(name); a.nets[name] == nil {
			a.reconcile()
			return
		}
	}
}

// forget removes what is left of a network without containers: the bridge, the
// firewall's part, and what the host knows. One that was in another's way has none of
// the devices that are called by its VNI: they are the other's.
func (a *Agent) forget(n *network) error {
	def := n.def()
	if !a.shared(n) {
		if err := link.Delete(def.Bridge()); err != nil {
			return err
		}
		if err := errors.Join(firewall.RemoveNetwork(a.ctx, a.fw.backend, def.Bridge()), firewall.RemoveGroup(attach.Group(def.Name)), a.fw.stop(def)); err != nil {
			return err
		}
	}
	err := a.Records.Update(a.ctx, func(tx *attach.Tx) error { return tx.ForgetNetwork(def.Name) })
	if err != nil {
		return err
	}
	return overlay.RemoveLocal(a.DataDir, def.Name)
}

// shared tells whether another network of this host has the names of a network's devices.
func (a *Agent) shared(n *network) bool {
	for _, o := range a.nets {
		if o != n && o.def().VNI == n.def().VNI {
			return true
		}
	}
	return false
}
