package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// Options say where the API server is and who comes; none has to be given.
type Options struct {
	client.Options
	// Namespace has the leases and the names: the agents' own. Empty: the pod's, or
	// [DefaultNamespace].
	Namespace string
	// Group of the custom resources, [DefaultGroup].
	Group string
	// TTL is how long a node whose agent is gone counts as alive, 30 s; whole seconds, 2
	// at least. The agent renews its lease three times as often.
	TTL time.Duration
	// By is who removes, as a [overlay.Removal] says it: a user and a host.
	By string
	// Log is told of trouble that goes by itself; nil for nobody.
	Log *slog.Logger
}

// Defaults of the options. The lease costs the API server what a kubelet's does.
const (
	DefaultNamespace = "berth-system"
	DefaultGroup     = "berth.dev"
	DefaultTTL       = 30 * time.Second
)

const version = "v1" // of the resources

// Store is an [overlay.Store] on Kubernetes' API. It may be used by several goroutines at a
// time; it serves one node: a second Register takes the place of the first.
type Store struct {
	o      Options
	c      *client.Client
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup // the goroutines of registrations, and what is written by and by

	networks, nodes, blocks, removals client.Resource
	leases, maps                      client.Resource

	registering chan struct{} // held by Register and Withdraw
	mu          sync.Mutex
	current     *registration
	mark        mark
	reported    report
	orders      map[overlay.RemovalKey]context.CancelFunc // to be written down
	followers   map[*collector]bool                       // of names
	claims      map[string]blockObject                    // the node's, as they were last written, by name
	size        atomic.Int64                              // nodes that there are
	breaks      atomic.Int64                              // of the history, that were seen

	publishing sync.Mutex
	published  map[string]*nameMap // by the object's name
}

var (
	_ overlay.Store  = (*Store)(nil)
	_ overlay.Roster = (*Store)(nil)
)

var errClosed = errors.New("the store has been closed")

// Open reads the configuration. It does not wait for the API server: every method does.
func Open(o Options) (*Store, error) {
	o.Group, o.TTL = cmp.Or(o.Group, DefaultGroup), cmp.Or(o.TTL, DefaultTTL)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.TTL < 2*time.Second || o.TTL%time.Second != 0 {
		return nil, fmt.Errorf("ttl: %s: want whole seconds, 2 at least", o.TTL)
	}
	c, err := client.Open(o.Options)
	if err != nil {
		return nil, err
	}
	if c.InPod() {
		o.Namespace = cmp.Or(o.Namespace, c.Namespace())
	}
	o.Namespace = cmp.Or(o.Namespace, DefaultNamespace)
	of := func(plural string) client.Resource {
		return client.Resource{Group: o.Group, Version: version, Plural: plural}
	}
	s := &Store{
		o: o, c: c, registering: make(chan struct{}, 1), published: map[string]*nameMap{}, orders: map[overlay.RemovalKey]context.CancelFunc{}, claims: map[string]blockObject{}, followers: map[*collector]bool{},
		networks: of("berthnetworks"), nodes: of("berthnodes"), blocks: of("berthblocks"), removals: of("berthremovals"),
		leases: client.Leases.In(o.Namespace), maps: client.ConfigMaps.In(o.Namespace),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Close ends all that the store does, and waits for it. The lease of a node that did not
// Withdraw runs out by itself. lost (see Register) must not call it.
func (s *Store) Close() error {
	s.cancel()
	s.work.Wait()
	s.c.Close()
	return nil
}

// Client is what the store speaks by. It is closed with the store.
func (s *Store) Client() *client.Client { return s.c }

// bound ends a request with the store.
func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// beat is how often a lease is renewed.
func (s *Store) beat() time.Duration { return s.o.TTL / 3 }
