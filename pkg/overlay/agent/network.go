package agent

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/vxlan"
	"github.com/berth-cni/berth/pkg/overlay/wireguard"
)

// network is an overlay network on this host.
type network struct {
	local    *overlay.Local
	plane    *vxlan.Plane         // nil before the host has a block
	tunnel   *wireguard.Tunnel    // of an encrypted network
	detour   *detour              // its second device, while keys are rotated
	secret   *presharedFile       // as it was last read; nil: it was not yet
	problem  string               // why it does not work as it should; empty: it does
	broken   string               // of problem, what keeps the network from being used
	fault    string               // what the kernel refused, at the last comparison
	used     map[netip.Prefix]int // leases of each block
	repaired map[string]uint64
	// unwritten is why runtimes do not know the network; empty: they do, or are not told.
	unwritten string
	gone      bool // from the store, while containers are still attached
	again     bool // what is wrong may pass by itself: a route of the host, a full disk
}

func newNetwork(l *overlay.Local) *network {
	return &network{local: l, repaired: map[string]uint64{}, used: map[netip.Prefix]int{}}
}

func (n *network) def() *overlay.Network { return &n.local.Network }

func (a *Agent) names() []string { return slices.Sorted(maps.Keys(a.nets)) }

// reconcile makes everything as the state says.
func (a *Agent) reconcile() {
	if !a.known { // what the kernel has is better than nothing
		return
	}
	conflicts := a.state.Conflicts()
	for _, name := range a.names() {
		if now, ok := a.state.Networks[name]; a.fresh && (!ok || !now.Same(a.nets[name].def())) {
			a.remove(name)
		}
	}
	a.routes = append([]link.HostRoute{}, a.hostRoutes()...)
	defer func() { a.routes = nil }()
	for _, name := range slices.Sorted(maps.Keys(a.state.Networks)) {
		a.ensure(name, conflicts[name])
	}
	a.rotate() // whose second devices are not to be swept away
	a.sweep()
	a.fw.sync()
}

// sweep deletes what networks left that went while the agent was away.
func (a *Agent) sweep() {
	for _, n := range a.nets {
		if n.plane == nil && !n.gone {
			return // its device may be there, and right
		}
	}
	if !a.fresh {
		return
	}
	if changes, err := a.host.Sweep(); err != nil || changes.Total() > 0 {
		a.Log.Info("what removed networks left is deleted", "changes", changes.String(), "error", err)
	}
}

// ensure brings a network of the store to what the state says.
func (a *Agent) ensure(name string, conflict error) {
	def := a.state.Networks[name]
	n := a.nets[name]
	if n == nil {
		n = newNetwork(&overlay.Local{Network: def, Node: a.id.Node})
		a.nets[name] = n
	}
	if !n.def().Same(&def) || n.gone && !a.fresh {
		return // the one before it has containers yet
	}
	n.gone = false
	n.local.Network, n.local.Node = def, a.id.Node
	if conflict == nil {
		conflict = a.conflictHere(&def)
	}
	a.ownBlocks(n)
	a.diagnose(n, conflict)
	if err := n.local.Write(a.DataDir); err != nil {
		a.Log.Error("write down what an ADD needs", "network", name, "error", err)
		n.problem, n.again = "write down what an ADD needs: "+err.Error(), true
		n.broken = n.problem
	}
	if conflict != nil {
		a.yield(n)
		return
	}
	if len(n.local.Blocks) == 0 {
		return
	}
	if err := a.program(n); err != nil {
		n.problem = err.Error()
		a.Log.Error("program the kernel", "network", name, "error", err)
	}
	a.tellRuntimes(n)
}

// tellRuntimes keeps the network's conflist, last of all. What keeps it from being written
// may pass: it is tried again at each tick.
func (a *Agent) tellRuntimes(n *network) {
	unwritten := ""
	if err := a.keepConflist(n); err != nil {
		unwritten = err.Error()
	}
	if unwritten != n.unwritten && unwritten != "" {
		a.Log.Error("have runtimes know the network", "network", n.def().Name, "error", unwritten)
	}
	n.unwritten = unwritten
}

// program hands what is wanted of the network to its data plane.
func (a *Agent) program(n *network) (err error) {
	device := a.device(n)
	if n.def().Encrypted {
		if device.Tunnel, err = a.encrypt(n); err != nil {
			n.broken = err.Error()
			return err
		}
	}
	if n.plane == nil {
		n.plane, err = a.host.Plane(device)
	} else {
		err = n.plane.SetDevice(device)
	}
	if err != nil {
		n.broken = err.Error()
		return err
	}
	peers := a.peers(n)
	err = n.plane.SetPeers(peers) // who is not valid is left out
	a.sync(n)
	a.probes.setPeers(n, peers)
	return err
}

// mtu is what the underlay leaves, or less if the network says so.
func (a *Agent) mtu(def *overlay.Network) int {
	room := a.underlay.mtu - def.Overhead(a.underlay.addr)
	if def.MTU != 0 && def.MTU < room {
		return def.MTU
	}
	return room
}

// device is the host's VXLAN device of the network.
func (a *Agent) device(n *network) vxlan.Device {
	def := n.def()
	return vxlan.Device{
		Name: def.Device(), VNI: uint32(def.VNI), Port: uint16(def.Port), MTU: a.mtu(def), MAC: overlay.MAC(def.Name, a.id.Node),
		Local: a.underlay.addr, Addresses: inner(n.local.Blocks), Subnets: def.Subnets, Group: attach.Group(def.Name),
		NoChecksumOffload: a.probes.broken(def.Name),
	}
}

// inner are a node's own addresses in the network: the network address of its first
// block of each family.
func inner(blocks []netip.Prefix) []netip.Addr {
	var addrs []netip.Addr
	for _, b := range blocks {
		if !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return a.Is4() == b.Addr().Is4() }) {
			addrs = append(addrs, b.Addr())
		}
	}
	return addrs
}

// diagnose says what is wrong with the network on this host.
func (a *Agent) diagnose(n *network, conflict error) {
	def := n.def()
	n.local.MTU = a.mtu(def)
	n.local.Refused, n.problem, n.broken, n.again = a.refused, a.refused, "", false
	removal, removed := a.replica.Removal(def)
	switch {
	case removed:
		n.local.Refused = "it was " + removal.String()
		n.problem = a.goesOn(n, removal)
	case conflict != nil:
		n.local.Refused = overlay.RefusedConflict + conflict.Error()
		n.problem, n.again = n.local.Refused, true
	case len(n.local.Lost) > 0:
		n.problem = fmt.Sprintf("blocks %v were given to other hosts; containers that have addresses of them are cut off", n.local.Lost)
	case def.MTU > a.underlay.mtu-def.Overhead(a.underlay.addr):
		n.problem = fmt.Sprintf("mtu: %d: device %s leaves %d bytes", def.MTU, a.underlay.device, n.local.MTU)
	default:
		if err := a.routedElsewhere(def); err != nil {
			n.problem = err.Error()
			if n.again = len(n.local.Blocks) == 0; n.again {
				n.local.Refused = n.problem
			}
		}
	}
}

// routedElsewhere tells whether the host reaches something else by addresses of the
// network.
func (a *Agent) routedElsewhere(def *overlay.Network) error {
	routes := a.routes
	if routes == nil {
		routes = a.hostRoutes()
	}
	var errs []error
	for _, r := range routes {
		for _, s := range def.Subnets {
			if s.Overlaps(r.Dst) {
				errs = append(errs, fmt.Errorf("subnet %s %s to %s", s, overlay.RefusedRoute, r.Dst))
			}
		}
	}
	return errors.Join(errs...)
}

// hostRoutes are those through none of the overlay's own devices; none where they cannot
// be read. The list is of all routes, so for all networks it is read once.
func (a *Agent) hostRoutes() []link.HostRoute {
	var own []string
	for _, n := range a.nets {
		own = append(own, n.def().Device(), n.def().NextDevice(), n.def().Bridge())
	}
	for _, n := range a.state.Networks {
		own = append(own, n.Device(), n.NextDevice(), n.Bridge())
	}
	routes, err := link.HostRoutes(own...)
	if err != nil {
		return nil
	}
	return routes
}

// retry looks again at networks whose trouble may have passed.
func (a *Agent) retry() {
	for _, name := range a.names() {
		if n := a.nets[name]; n.again && !n.gone && a.known {
			a.ensure(name, a.state.Conflicts()[name])
			a.fw.sync()
		}
	}
}

// repair compares a network's kernel state with what is wanted, and counts what
// somebody else changed.
func (a *Agent) repair(n *network) {
	changes := a.sync(n)
	for kind, count := range map[string]int{
		"device": changes.Device, "address": changes.Addresses, "fdb": changes.FDB,
		"neighbour": changes.Neighbours, "route": changes.Routes, "unreachable": changes.Unreachable, "peer": changes.Peers,
	} {
		n.repaired[kind] += uint64(count)
	}
	a.count.repairs += uint64(changes.Total())
}

// sync brings the kernel to what is wanted of a network.
func (a *Agent) sync(n *network) vxlan.Changes {
	if n.plane == nil || !a.trusts() {
		return vxlan.Changes{}
	}
	a.count.syncs++
	changes, err := n.plane.Sync()
	fault := ""
	if err != nil {
		fault = err.Error()
	}
	if err != nil && fault != n.fault { // once, not at every comparison
		a.Log.Error("program the kernel", "network", n.def().Name, "error", err)
	}
	n.fault = fault
	if changes.Total() > 0 {
		a.Log.Info("kernel brought to what is wanted", "network", n.def().Name, "changes", changes.String())
	}
	a.syncAgain(n)
	a.probes.listen(n)
	return changes
}
