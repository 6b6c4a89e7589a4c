package agent

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/berth-cni/berth/pkg/overlay/probe"
	"github.com/berth-cni/berth/pkg/overlay/vxlan"
)

// probeRate bounds the probes of all networks together, in a second.
const probeRate = 10

// probes look for black holes between this host and each peer, through the tunnel.
type probes struct {
	a        *Agent
	schedule *probe.Schedule[target]
	found    map[target]finding
	bad      map[string]bool // networks whose checksum offload is off
	answers  map[inside]*probe.Responder
	index    map[inside]int // the interface that a responder is bound to
	bound    map[inside]netip.Addr
	inner    innerAddresses
}

// target is one family of a peer on a network.
type target struct {
	network, node string
	v4            bool
}

// inside is one family of a network on this host.
type inside struct {
	network string
	v4      bool
}

type finding struct {
	verdict probe.Verdict
	since   time.Time // of this state
}

// innerAddresses are the peers' own, for responders, which ask from other goroutines.
type innerAddresses struct {
	sync.Mutex
	of map[target]netip.Addr
	is map[string]map[netip.Addr]int // by network
}

func newProbes(a *Agent) *probes {
	return &probes{
		a: a, schedule: probe.NewSchedule[target](probeRate), found: map[target]finding{}, bad: map[string]bool{},
		answers: map[inside]*probe.Responder{}, index: map[inside]int{}, bound: map[inside]netip.Addr{},
		inner: innerAddresses{of: map[target]netip.Addr{}, is: map[string]map[netip.Addr]int{}},
	}
}

// broken tells whether the network's checksums must not be left to devices.
func (p *probes) broken(network string) bool { return p.bad[network] }

// setPeers has these probed on a network, and no others.
func (p *probes) setPeers(n *network, peers []vxlan.Peer) {
	if !p.a.Probe {
		return
	}
	p.listen(n)
	there := map[string]bool{}
	for _, peer := range peers {
		there[peer.Name] = true
		p.addPeer(n, peer)
	}
	for _, t := range p.inner.targets(n.def().Name) {
		if !there[t.node] {
			p.remove(t)
		}
	}
}

func (p *probes) addPeer(n *network, peer vxlan.Peer) {
	if !p.a.Probe {
		return
	}
	has := map[bool]bool{}
	for _, addr := range inner(peer.Blocks) {
		t := target{n.def().Name, peer.Name, addr.Is4()}
		has[t.v4] = true
		p.inner.set(t, addr)
		p.schedule.Add(t)
	}
	for _, v4 := range []bool{true, false} {
		if !has[v4] {
			p.remove(target{n.def().Name, peer.Name, v4})
		}
	}
}

func (p *probes) removePeer(n *network, node string) {
	for _, v4 := range []bool{true, false} {
		p.remove(target{n.def().Name, node, v4})
	}
}

func (p *probes) remove(t target) {
	p.inner.drop(t)
	p.schedule.Remove(t)
	delete(p.found, t)
}

// listen answers the peers' probes on the host's own inner addresses. A device that
// was made again wants another socket.
func (p *probes) listen(n *network) {
	if !p.a.Probe || n.plane == nil {
		return
	}
	network, device := n.def().Name, n.def().Device()
	for _, addr := range inner(n.local.Blocks) {
		k := inside{network, addr.Is4()}
		if index := n.plane.Index(); p.answers[k] == nil || p.index[k] != index || p.bound[k] != addr {
			p.hush(k)
			r, err := probe.Listen(addr, device, uint32(n.def().VNI), func(from netip.Addr) bool { return p.inner.has(network, from) })
			if err != nil {
				p.a.Log.Debug("answer probes", "network", network, "error", err) // the next comparison tries again
				continue
			}
			p.answers[k], p.index[k], p.bound[k] = r, index, addr
		}
	}
}

func (p *probes) hush(k inside) {
	if r := p.answers[k]; r != nil {
		_ = r.Close()
		delete(p.answers, k)
	}
}

// forget drops a network that is no more.
func (p *probes) forget(network string) {
	for _, t := range p.inner.targets(network) {
		p.remove(t)
	}
	p.hush(inside{network, true})
	p.hush(inside{network, false})
	delete(p.bad, network)
}

func (p *probes) close() {
	for k := range p.answers {
		p.hush(k)
	}
}

// probesLatest is for how long the probes wait for the host to be ready.
const probesLatest = 30 * time.Second

// settle waits until the host is ready: before that it has more urgent things to do than to
// look for black holes, above all where many hosts come at the same time.
func (a *Agent) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, probesLatest)
	defer cancel()
	for ready := false; !ready; {
		if !a.do(ctx, func() { ready = a.notReady() == "" }) {
			return
		}
		sleep(ctx, jitter(time.Second))
	}
}

// probe asks peers in their turn until the context ends.
func (a *Agent) probe(ctx context.Context) {
	if !a.Probe {
		return
	}
	a.settle(ctx)
	var prober probe.Prober
	a.probes.schedule.Run(ctx, func(ctx context.Context, t target) bool {
		var ask probe.Target
		ok := false
		if !a.do(ctx, func() { ask, ok = a.probes.question(t) }) || !ok {
			return true
		}
		v := prober.Probe(ctx, ask)
		if ctx.Err() != nil {
			return true
		}
		a.do(ctx, func() { a.probes.conclude(t, v) })
		return v.State == probe.OK || v.State == probe.Away
	})
}

// question is what to ask of a target; false when there is nothing to ask.
func (p *probes) question(t target) (probe.Target, bool) {
	n := p.a.nets[t.network]
	peer, known := p.inner.get(t)
	if n == nil || n.plane == nil || n.detour != nil || !known { // a detour is no way of a probe's
		return probe.Target{}, false
	}
	for _, own := range inner(n.local.Blocks) {
		if own.Is4() != t.v4 {
			continue
		}
		mtu := n.local.MTU
		if there, ok := n.plane.Peer(t.node); ok && there.MTU != 0 {
			mtu = min(mtu, there.MTU)
		}
		_, alive := p.a.state.Alive[t.node]
		return probe.Target{Peer: peer, Local: own, Device: n.def().Device(), VNI: uint32(n.def().VNI), MTU: mtu, Alive: alive}, true
	}
	return probe.Target{}, false
}

// conclude notes what a probe found, and mends what can be mended.
func (p *probes) conclude(t target, v probe.Verdict) {
	n := p.a.nets[t.network]
	if _, known := p.inner.get(t); !known || n == nil {
		return // it went meanwhile
	}
	f := finding{v, time.Now()}
	if was, ok := p.found[t]; ok && was.verdict.State == v.State {
		f.since = was.since
	} else if v.State != probe.OK && v.State != probe.Away {
		p.a.Log.Warn("a peer is not reached as it should be", "network", t.network, "node", t.node, "verdict", v.String())
	} else if ok {
		p.a.Log.Info("peer", "network", t.network, "node", t.node, "verdict", v.String())
	}
	defer func() { p.found[t] = f }()
	if was, ok := p.found[t]; v.State == probe.BadChecksum && (!ok || was.verdict.State != probe.BadChecksum) {
		p.schedule.Hurry(t) // twice is no accident
	} else if v.State == probe.BadChecksum && !p.bad[t.network] {
		p.bad[t.network] = true
		p.a.Log.Warn("checksum offload is broken on the way: switched off", "network", t.network, "device", n.def().Device())
		if err := p.a.program(n); err != nil {
			p.a.Log.Error("program the kernel", "network", t.network, "error", err)
		}
		p.schedule.Hurry(t)
	}
}

// status sums up a network's findings. A peer that is away is no failure.
func (p *probes) status(network string) ProbeStatus {
	var s ProbeStatus
	for t, f := range p.found {
		switch {
		case t.network != network || f.verdict.State == probe.Away:
		case f.verdict.State == probe.OK:
			s.OK++
		default:
			s.Failing = append(s.Failing, FailedPeer{t.node, f.verdict.State.String(), f.verdict.String(), f.since})
		}
	}
	slices.SortFunc(s.Failing, func(a, b FailedPeer) int { return cmp.Compare(a.Peer+a.Verdict, b.Peer+b.Verdict) })
	return s
}

func (i *innerAddresses) set(t target, addr netip.Addr) {
	i.drop(t)
	i.Lock()
	defer i.Unlock()
	i.of[t] = addr
	if i.is[t.network] == nil {
		i.is[t.network] = map[netip.Addr]int{}
	}
	i.is[t.network][addr]++
}

func (i *innerAddresses) drop(t target) {
	i.Lock()
	defer i.Unlock()
	addr, ok := i.of[t]
	if !ok {
		return
	}
	delete(i.of, t)
	if i.is[t.network][addr]--; i.is[t.network][addr] == 0 {
		delete(i.is[t.network], addr)
	}
}

func (i *innerAddresses) get(t target) (netip.Addr, bool) {
	i.Lock()
	defer i.Unlock()
	addr, ok := i.of[t]
	return addr, ok
}

func (i *innerAddresses) has(network string, addr netip.Addr) bool {
	i.Lock()
	defer i.Unlock()
	return i.is[network][addr] > 0
}

func (i *innerAddresses) targets(network string) (all []target) {
	i.Lock()
	defer i.Unlock()
	for t := range i.of {
		if t.network == network {
			all = append(all, t)
		}
	}
	return all
}
