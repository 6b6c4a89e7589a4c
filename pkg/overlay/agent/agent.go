// Package agent is the loop that keeps a host's part of the overlay as the store
// says: it claims the host's blocks, programs the kernel for every peer, compares
// and repairs, and writes down what an ADD needs.
//
// Everything that the agent knows is touched by one goroutine, the loop; all others
// (the store's watch, the registration, claims, probes, the kernel's events) hand it
// functions to run. When the agent stops, the data plane stays as it is.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/replica"
	"github.com/berth-cni/berth/pkg/overlay/vxlan"
	"github.com/berth-cni/berth/pkg/overlay/wireguard"
)

// Config is what an agent is started with.
type Config struct {
	Store overlay.Store
	// Follow, if it is given, is told of all that the agent goes by, once the agent has:
	// also of what the store has lost. It must not wait.
	Follow func(overlay.Update)
	Node   string // the host's name in the overlay
	// Underlay is an address or a device of the host; empty: that of the default
	// route.
	Underlay string
	DataDir  string // what outlives a reboot; empty: [overlay.DataDir]
	StateDir string // what does not; empty: the attachments' folder
	Runtimes
	// NetDir is where people have it written ('berth network install'): the agent takes it
	// away with the network. Empty: nowhere.
	NetDir          string
	FirewallBackend string        // auto, nftables or iptables
	Resync          time.Duration // how often the kernel is compared with what is wanted
	Probe           bool          // look for black holes
	// WireGuard is the command that has an encrypted network's device in user space, where
	// the kernel has no WireGuard: it is given --mtu and the device's name.
	WireGuard []string
	Log       *slog.Logger
	// Records opens the attachments' store.
	Records *attach.Store
}

// Agent is one host's part of the overlay.
type Agent struct {
	Config
	ctx     context.Context // of Run
	inbox   chan func()
	again   chan struct{} // register again
	workers sync.WaitGroup

	// What follows is the loop's own.
	id         overlay.Identity
	key        wireguard.Key // private
	keyErr     error         // why there is none
	rotation   rotation
	instance   string
	underlay   underlay
	lacks      *lacking // of the underlay; nil for nothing
	replica    *replica.Replica
	state      *overlay.State // the replica's
	known      bool           // state is the store's, of now or of before
	fresh      bool           // it is of now
	rebooted   bool           // at the agent's start the kernel had nothing of the overlay
	registered bool           // the store knows this host by its name
	refused    string         // why the host must not use its blocks
	// unconfirmed: they are refused since nobody has said, in this run of the host, whose
	// they are.
	unconfirmed bool
	away        storeAway
	host        *vxlan.Host
	nets        map[string]*network
	pending     map[claimKey]bool
	rejected    map[overlay.BlockKey]time.Time // taken, though the watch has not said so yet
	saved       savedState
	giving      giving // back to the store what it has lost
	fw          *hostFirewall
	probes      *probes
	routes      []link.HostRoute // of the host, while all networks are reconciled
	count       counters
	counting    bool // leases, beside the loop
}

// counters are for the metrics: how often since the start.
type counters struct {
	updates, peers, syncs, repairs, claims, storeLost, registrations uint64
}

// New checks the configuration and fills in what is not given.
func New(c Config) (*Agent, error) {
	if c.Store == nil {
		return nil, errors.New("store: none is given")
	}
	if err := overlay.ValidName(c.Node); err != nil {
		return nil, fmt.Errorf("node-name: %q: %w", c.Node, err)
	}
	if c.DataDir == "" {
		c.DataDir = overlay.DataDir()
	}
	if c.Records == nil {
		return nil, errors.New("records: none are given")
	}
	if c.StateDir == "" {
		c.StateDir = c.Records.Dir()
	}
	if c.Resync <= 0 {
		c.Resync = 5 * time.Second
	}
	if c.Follow == nil {
		c.Follow = func(overlay.Update) {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	a := &Agent{
		Config: c, inbox: make(chan func()), again: make(chan struct{}, 1),
		nets: map[string]*network{}, pending: map[claimKey]bool{}, rejected: map[overlay.BlockKey]time.Time{},
	}
	a.replica = replica.New(c.Node, a.holds)
	a.state = a.replica.State
	return a, nil
}

// Run keeps the host's part of the overlay until the context ends. It leaves the data
// plane working. An error is what no waiting mends.
func (a *Agent) Run(ctx context.Context) error {
	unlock, err := overlay.LockAgent(a.StateDir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := a.identify(); err != nil {
		return err
	}
	a.loadKey()
	if !a.awaitUnderlay(ctx) {
		return nil
	}
	if a.fw, err = newHostFirewall(a); err != nil {
		return err
	}
	a.probes = newProbes(a)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.ctx = ctx
	if a.host, err = vxlan.Open(); err != nil {
		return err
	}
	defer a.host.Close()
	a.Log.Info("agent starts", "node", a.Node, "address", a.underlay.addr, "device", a.underlay.device, "mtu", a.underlay.mtu)
	a.remember()
	a.checkUsage() // before a claim says what is used
	for _, work := range []func(context.Context){a.watch, a.register, a.watchKernel, a.watchUnderlay, a.watchFirewall, a.watchRecords, a.probe} {
		a.workers.Go(func() { work(ctx) })
	}
	a.loop(ctx)
	cancel()
	a.probes.close()
	a.workers.Wait()
	a.save(true)
	if a.registered {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if err := a.Store.Withdraw(stop); err != nil {
			a.Log.Warn("say good-bye to the store", "error", err)
		}
	}
	a.Log.Info("agent stops; the data plane stays as it is")
	return nil
}

func (a *Agent) loop(ctx context.Context) {
	tick := time.NewTicker(a.Resync)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case fn := <-a.inbox:
			fn()
		case <-tick.C:
			a.tick()
		}
	}
}

// do has the loop run fn, and waits until it has. It reports whether it did; the
// context may end before.
func (a *Agent) do(ctx context.Context, fn func()) bool {
	done := make(chan struct{})
	select {
	case a.inbox <- func() { fn(); close(done) }:
	case <-ctx.Done():
		return false
	}
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// trusts tells whether the state is better than what the kernel has: it is the
// store's of now, or the kernel had nothing. An agent that starts again while the
// store is away leaves the kernel as the one before it did, which may have known more
// than it wrote down.
func (a *Agent) trusts() bool { return a.fresh || a.known && a.rebooted }

// tick compares everything with what is wanted, whatever was told or not.
func (a *Agent) tick() {
	a.checkUnderlay()
	for _, name := range a.names() {
		a.repair(a.nets[name])
		a.tellRuntimes(a.nets[name])
	}
	a.fw.tick()
	a.recount()
	a.giveBack()
	a.checkLost()
	a.dropOld()
	a.followPreshared()
	a.retry()
	a.claimAll()
	a.retryKey()
	a.rotate()
	a.save(false)
}

// watch follows the store until the context ends.
func (a *Agent) watch(ctx context.Context) {
	for ctx.Err() == nil {
		err := a.Store.Watch(ctx, func(u overlay.Update) {
			a.do(ctx, func() { a.apply(u) })
		})
		if ctx.Err() != nil {
			return
		}
		a.do(ctx, func() { a.apply(overlay.Update{Err: err}) })
		sleep(ctx, jitter(time.Second))
	}
}

// storeAway is since when, and why.
type storeAway struct {
	since time.Time
	err   error
}

// apply brings the state, and from it the kernel, up to date.
func (a *Agent) apply(u overlay.Update) {
	if u.Err != nil {
		if a.away.err == nil {
			a.away.since = time.Now()
			a.count.storeLost++
			a.Log.Warn("the store is away; traffic and local ADDs go on", "error", u.Err)
		}
		a.away.err = u.Err
		a.cutOff()
		a.Follow(u)
		return
	}
	if a.away.err != nil {
		a.Log.Info("the store is back", "away", time.Since(a.away.since).Round(time.Second))
		a.away = storeAway{}
	}
	for _, b := range u.Bad {
		a.Log.Warn("the store holds what nobody can use", "key", b.Key, "error", b.Err)
	}
	a.count.updates++
	u = a.replica.Take(u)
	a.tellBroken(u)
	a.follow(u)
}

// follow has the kernel follow a change of the state.
func (a *Agent) follow(u overlay.Update) {
	touched := a.touched(u)
	a.saved.dirty = a.saved.dirty || a.matters(u)
	family := a.state.Family()
	a.state.Apply(u)
	a.look()
	if first := u.Full && !a.fresh; first || a.state.Family() != family {
		a.known, a.fresh = a.known || first, a.fresh || first
		a.checkUnderlay()
		if first {
			a.reregister()
		}
	}
	if u.Full {
		a.known, a.fresh = true, true
		a.reconcile()
	} else {
		touched.add(a.touched(u))
		a.change(u, touched)
		if len(u.Nodes) > 0 {
			a.rotate()
		}
	}
	a.claimAll()
	a.save(false)
	a.Follow(u)
}

func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
