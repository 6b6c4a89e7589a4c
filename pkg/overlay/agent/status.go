package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Status is what an agent says of itself and of the overlay on its host.
type Status struct {
	Node     string          `json:"node"`
	Overlay  bool            `json:"overlay"` // it takes part in overlay networks
	Underlay UnderlayStatus  `json:"underlay"`
	Ready    bool            `json:"ready"`
	Why      string          `json:"why,omitempty"` // it is not ready
	Refused  string          `json:"refused,omitempty"`
	Store    StoreStatus     `json:"store"`
	Networks []NetworkStatus `json:"networks"`
	Bad      []BadStatus     `json:"bad,omitempty"`
	// Counters count since the agent's start.
	Counters map[string]uint64 `json:"counters"`
	// Dropped are the packets that nobody may send, by the reasons of [firewall.Dropped];
	// whoever asks by HTTP is told.
	Dropped map[string]uint64 `json:"dropped,omitempty"`
}

// UnderlayStatus is the host's interface that VXLAN packets use.
type UnderlayStatus struct {
	Address netip.Addr `json:"address"`
	Device  string     `json:"device"`
	MTU     int        `json:"mtu"` // bytes
}

// StoreStatus says whether the store answers.
type StoreStatus struct {
	Away       bool      `json:"away"`
	Error      string    `json:"error,omitempty"`
	Since      time.Time `json:"since,omitzero"` // it is away
	Registered bool      `json:"registered"`     // it knows this host
	Nodes      int       `json:"nodes"`
	// Broken is why the store's history is not the one before, while something is lost.
	Broken      string    `json:"broken,omitempty"`
	BrokenSince time.Time `json:"brokenSince,omitzero"`
	// Lost is what the store does not have, though nobody has removed it. The host goes on
	// by it.
	LostNetworks []string `json:"lostNetworks,omitempty"`
	LostNodes    []string `json:"lostNodes,omitempty"`
	LostBlocks   int      `json:"lostBlocks,omitempty"`
}

// NetworkStatus is a network on this host.
type NetworkStatus struct {
	Name   string `json:"name"`
	VNI    int    `json:"vni"`
	Device string `json:"device"`
	Bridge string `json:"bridge"`
	MTU    int    `json:"mtu"`  // bytes
	Port   int    `json:"port"` // UDP
	// Encrypted networks are carried by WireGuard. Keyless are nodes that take no part in
	// it: nothing is sent to them.
	Encrypted bool     `json:"encrypted,omitempty"`
	Keyless   []string `json:"keyless,omitempty"`

	Blocks   []BlockStatus     `json:"blocks"`
	Peers    int               `json:"peers"`
	Problem  string            `json:"problem,omitempty"`
	Why      string            `json:"why,omitempty"`     // nothing can be added, or reaches other hosts
	Refused  string            `json:"refused,omitempty"` // nothing can be added
	Removed  string            `json:"removed,omitempty"` // by whom and when, while it goes on for its containers
	Repairs  map[string]uint64 `json:"repairs"`           // by kind: "fdb", "route", …
	Probes   ProbeStatus       `json:"probes"`
	Checksum bool              `json:"checksumOffloadOff,omitempty"`
}

// BlockStatus is a block of this host. Size and Free count addresses.
type BlockStatus struct {
	Prefix netip.Prefix `json:"prefix"`
	Size   float64      `json:"size"`
	Free   float64      `json:"free"`
}

// ProbeStatus is what the probes of a network's peers found.
type ProbeStatus struct {
	OK      int          `json:"ok"`
	Failing []FailedPeer `json:"failing,omitempty"`
}

// FailedPeer is a peer that is not reached as it should be.
type FailedPeer struct {
	Peer string `json:"peer"`
	// State is the verdict in a word: no-answer, small-mtu, bad-checksum, failed.
	State   string    `json:"state"`
	Verdict string    `json:"verdict"`
	Since   time.Time `json:"since"`
}

// BadStatus is data in the store that nobody can use.
type BadStatus struct {
	Key   string `json:"key"`
	Error string `json:"error"`
}

var errBusy = errors.New("the agent does not answer: it is starting, stopping or stuck")

// Status asks the agent's loop. One that does not answer is not ready.
func (a *Agent) Status() Status {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	answer := make(chan Status, 1)
	if !a.do(ctx, func() { answer <- a.status() }) {
		return Status{Node: a.Node, Overlay: true, Why: errBusy.Error()}
	}
	return <-answer
}

func (a *Agent) status() Status {
	s := Status{
		Node: a.id.Node, Overlay: true, Refused: a.refused,
		Underlay: UnderlayStatus{a.underlay.addr, a.underlay.device, a.underlay.mtu},
		Store:    StoreStatus{Registered: a.registered, Nodes: len(a.state.Nodes)},
		Counters: map[string]uint64{
			"store_updates": a.count.updates, "peer_changes": a.count.peers, "kernel_syncs": a.count.syncs, "kernel_repairs": a.count.repairs,
			"blocks_claimed": a.count.claims, "store_losses": a.count.storeLost, "registrations": a.count.registrations,
		},
	}
	if a.away.err != nil {
		s.Store.Away, s.Store.Error, s.Store.Since = true, a.away.err.Error(), a.away.since
	}
	s.Store.lost(a)
	for _, name := range a.names() {
		s.Networks = append(s.Networks, a.networkStatus(a.nets[name]))
	}
	for key, err := range a.state.Bad {
		s.Bad = append(s.Bad, BadStatus{key, err.Error()})
	}
	slices.SortFunc(s.Bad, func(a, b BadStatus) int { return cmp.Compare(a.Key, b.Key) })
	s.Why = a.notReady()
	s.Ready = s.Why == ""
	return s
}

// notReady says why the agent has not done, or cannot do, what it is there for. A store that
// is away later does not matter, nor does a peer that is not reached.
func (a *Agent) notReady() string {
	alone := !a.fresh && a.known && len(a.nets) > 0 // as it was when the store was last read
	switch {
	case a.refused != "":
		return a.refused
	case a.lacks != nil:
		return a.lacksWhy()
	case !a.fresh && !alone:
		return "the store has not been read yet"
	case !a.registered && !alone:
		return "the store does not know this host yet"
	case a.fw.why != "":
		return "firewall: " + a.fw.why
	case a.Default != "" && a.nets[a.Default] == nil:
		return "network " + a.Default + ", the default one: the store has none of that name"
	}
	for _, name := range a.names() {
		n := a.nets[name]
		_, removed := a.replica.Removal(n.def()) // what is left of it is for its containers
		if why := n.notReady(); why != "" && !removed {
			return "network " + name + ": " + why
		}
	}
	return ""
}

// notReady says why containers cannot be added to the network on this host, or do not
// reach those on others.
func (n *network) notReady() string {
	switch {
	case n.gone:
		return ""
	case n.local.Refused != "":
		return n.local.Refused
	case n.broken != "":
		return n.broken
	case n.lacks() != nil: // which an ADD needs
		return cmp.Or(n.problem, fmt.Sprintf("it has no block of %v yet", n.lacks()))
	case n.plane == nil:
		return "its device has not been made yet"
	case n.unwritten != "":
		return n.unwritten
	}
	return n.fault
}

// lacks are the subnets of which the host has no block.
func (n *network) lacks() (all []netip.Prefix) {
	for _, s := range n.def().Subnets {
		if !slices.ContainsFunc(n.local.Blocks, s.Overlaps) {
			all = append(all, s)
		}
	}
	return all
}

func (a *Agent) networkStatus(n *network) NetworkStatus {
	def := n.def()
	s := NetworkStatus{
		Why:  n.notReady(),
		Name: def.Name, VNI: def.VNI, Device: def.Device(), Bridge: def.Bridge(), MTU: n.local.MTU, Port: def.UDPPort(), Encrypted: def.Encrypted, Keyless: a.keyless(n),
		Problem: cmp.Or(n.problem, n.fault, n.unwritten, a.keylessProblem(n)), Refused: n.local.Refused, Repairs: map[string]uint64{}, Probes: a.probes.status(def.Name),
		Checksum: a.probes.broken(def.Name),
	}
	if r, ok := a.replica.Removal(def); ok {
		s.Removed = r.String()
	}
	for kind, count := range n.repaired {
		s.Repairs[kind] = count
	}
	for _, b := range n.local.Blocks {
		size := addressesOf(b)
		s.Blocks = append(s.Blocks, BlockStatus{b, size, size - float64(n.used[b])})
	}
	if n.plane != nil {
		s.Peers = n.plane.Len()
	}
	return s
}
