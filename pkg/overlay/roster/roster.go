// Package roster makes names work across the hosts of an overlay network. It tells
// the others what this host's containers are called, and this host's names' server
// what theirs are.
//
// Both sides are kept as they are wanted: what the names' server says of this host is
// compared with what the store has, at each change of either, and what differs is
// written again. So nothing is lost when the host's life in the store ends and begins
// anew, and what somebody removed by hand comes back.
//
// Only the names of networks are followed on which this host has containers that ask
// for names. A host knows as many names as it can be asked for, however many there
// are in all. While the store is away, what was known stays.
package roster

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/overlay"
)

const (
	// linger is how long a network is still followed when its last container on this
	// host is gone: one that starts again finds the names there.
	linger = time.Minute
	// look is how often it is looked for such networks, and for refused names to tell.
	look = 5 * time.Second
)

// Directory is the names' server's: who is called what.
type Directory interface {
	Notify(func(attach.Key)) // of each change of this host's entries
	Get(attach.Key) (names.Entry, bool)
	Local() []names.Entry
	PutRemote(node string, e names.Entry)
	DeleteRemote(node string, k attach.Key)
}

// Config is what a roster ties together.
type Config struct {
	Node      string // this host's name
	Names     overlay.Roster
	Directory Directory
	// Ready is closed when the directory has this host's containers.
	Ready <-chan struct{}
	Log   *slog.Logger
}

// Roster is the names of one host's overlay networks. The agent has to use the store
// that [Roster.Store] returns.
type Roster struct {
	Config
	changes changes
	due     chan struct{} // something is to be published
	again   chan struct{} // now, though it went wrong a moment ago
	workers sync.WaitGroup

	mu    sync.Mutex // taken before the directory's lock
	ctx   context.Context
	state *overlay.State
	away  bool // the store; the state is as it was
	// Of this host.
	asking map[string]map[attach.Key]bool   // by network
	wanted map[overlay.NameKey]overlay.Name // what the store shall have
	dirty  map[overlay.NameKey]bool         // and may not have
	// Of others.
	networks map[string]*network
	refused  map[overlay.NameKey]*refusal
}

// changes are the keys of this host's entries that changed, as the directory calls.
type changes struct {
	mu   sync.Mutex
	keys map[attach.Key]bool
	some chan struct{}
}

func (c *changes) add(k attach.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys[k] = true
	signal(c.some)
}

func (c *changes) take() map[attach.Key]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.keys
	c.keys = map[attach.Key]bool{}
	return all
}

// signal has who waits on the channel, which holds one, look.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// New makes a roster, which does nothing before [Roster.Run].
func New(c Config) *Roster {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Roster{
		Config: c, due: make(chan struct{}, 1), again: make(chan struct{}, 1),
		changes: changes{keys: map[attach.Key]bool{}, some: make(chan struct{}, 1)},
		state:   overlay.NewState(), asking: map[string]map[attach.Key]bool{}, wanted: map[overlay.NameKey]overlay.Name{},
		dirty: map[overlay.NameKey]bool{}, networks: map[string]*network{}, refused: map[overlay.NameKey]*refusal{},
	}
}

// Run publishes and follows until the context ends. It leaves the names in the store,
// which go with the node's life.
func (r *Roster) Run(ctx context.Context) {
	select { // before that, what the store has of this host would seem to be too much
	case <-r.Ready:
	case <-ctx.Done():
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	r.mu.Lock()
	r.ctx = ctx
	r.mu.Unlock()
	defer r.workers.Wait()
	defer cancel()
	r.workers.Go(func() { r.publish(ctx) })
	r.Directory.Notify(r.changes.add)
	defer r.Directory.Notify(func(attach.Key) {})
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.changes.some:
			r.takeLocal()
		case <-tick.C:
			r.leaveIdle(time.Now())
			r.forgetStale(time.Now())
			r.tellRefused(time.Now())
		}
	}
}

// takeLocal compares what changed on this host with what is wanted.
func (r *Roster) takeLocal() {
	keys := r.changes.take()
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range keys {
		r.settle(k)
	}
}

// settle decides what is wanted for an attachment of this host. A network that is
// called as an overlay network, and is none, has another bridge.
func (r *Roster) settle(k attach.Key) {
	e, ok := r.Directory.Get(k)
	n, known := r.state.Networks[k.Network]
	asks := ok && known && (e.Bridge == n.Bridge() || e.Bridge == names.AnyInterface)
	r.ask(k, asks)
	want := overlay.Name{NameKey: overlay.NameKey{Network: k.Network, Node: r.Node, Container: k.Container, IfName: k.IfName}}
	old, had := r.wanted[want.NameKey]
	if asks && len(e.Names) > 0 {
		want.Names, want.Addresses = e.Names, e.Addresses
		if had && want.Same(&old) {
			return
		}
		err := want.Validate()
		if err == nil {
			r.wanted[want.NameKey] = want
			r.renew(want.NameKey)
			return
		}
		r.Log.Warn("other hosts are not told of a container's names", "key", want.NameKey, "error", err)
	}
	if had {
		delete(r.wanted, want.NameKey)
		r.renew(want.NameKey)
	}
}

// ask notes whether an attachment of this host asks for names of its network.
func (r *Roster) ask(k attach.Key, asks bool) {
	if !asks {
		delete(r.asking[k.Network], k)
		return
	}
	if r.asking[k.Network] == nil {
		r.asking[k.Network] = map[attach.Key]bool{}
	}
	r.asking[k.Network][k] = true
	r.follow(k.Network)
}

// renew has a name of this host published, or dropped.
func (r *Roster) renew(k overlay.NameKey) {
	r.dirty[k] = true
	signal(r.due)
}
