// Package etcd keeps the overlay networks in etcd (API v3, servers from 3.4 on).
//
// Under the prefix, "/berth/v1/" unless told otherwise, are
//
//	networks/NAME                an [overlay.Network]
//	vnis/N                       the name of the network that has VNI N
//	nodes/NAME                   an [overlay.Node]
//	blocks/NETWORK/10.42.3.0-24  an [overlay.Block]; "-" stands for the prefix's "/"
//	alive/NAME                   an [overlay.Alive], under a lease
//	left/NAME                    an [overlay.Left]
//	missed/NAME                  an [overlay.Missed], under the same lease
//	removed/networks/ID          an [overlay.Removal]
//	removed/nodes/NAME/TOKEN     the same
//	incarnation                  a random word, of [overlay.History]
//
// and beside it, under "/berth/v1-names/",
//
//	NETWORK/NODE/CONTAINER:IFNAME  an [overlay.Name], under the node's lease
//
// with values in JSON. Each write is a transaction that compares what it was decided
// from. Whatever else has write access may write nonsense: each value that is read
// is checked, and what is wrong is reported with its key and used by nobody. Fields
// that are not known are passed over, and so are other families: every node is told
// of everything under the prefix, so only what is for every node belongs there.
// The names of a network are for the nodes that have containers on it.
package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/berth-cni/berth/pkg/overlay"
)

// Options say where the store is and how to speak to it. Only Endpoints is needed.
type Options struct {
	// Endpoints are URLs of members: "http://10.0.0.1:2379".
	Endpoints []string
	// CA, Cert and Key are PEM files: who signed the members' certificates (the
	// system's CAs when empty), and the client's certificate, if it needs one. All
	// are read anew for each connection, so they may be renewed in place.
	CA, Cert, Key string
	// User and Password are for etcd's own authentication.
	User, Password string
	// Prefix of all keys but those of names, "/berth/v1/". Names have "-names" at its
	// end: "/berth/v1-names/". A user of etcd's needs to read and write both.
	Prefix string
	// DialTimeout bounds the log-in, RequestTimeout a request: 5 s each.
	DialTimeout, RequestTimeout time.Duration
	// TTL is how long a node whose agent is gone counts as alive, 15 s; whole
	// seconds, 2 at least.
	TTL time.Duration
	// By is who removes, as a [overlay.Removal] says it: a user and a host.
	By string
	// Log is told of trouble that goes by itself; nil for nobody.
	Log *slog.Logger
}

// Defaults of the options.
const (
	DefaultPrefix  = "/berth/v1/"
	DefaultTTL     = 15 * time.Second
	defaultTimeout = 5 * time.Second
)

func (o *Options) setDefaults() {
	o.Prefix = cmp.Or(o.Prefix, DefaultPrefix)
	if !strings.HasSuffix(o.Prefix, "/") {
		o.Prefix += "/"
	}
	o.DialTimeout = cmp.Or(o.DialTimeout, defaultTimeout)
	o.RequestTimeout = cmp.Or(o.RequestTimeout, defaultTimeout)
	o.TTL = cmp.Or(o.TTL, DefaultTTL)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// validate returns all that is wrong with the options.
func (o *Options) validate() error {
	var errs []error
	if len(o.Endpoints) == 0 {
		errs = append(errs, errors.New("endpoints: want one at least, such as http://10.0.0.1:2379"))
	}
	schemes := map[string]bool{}
	for _, e := range o.Endpoints {
		u, err := url.Parse(e)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			errs = append(errs, fmt.Errorf("endpoints: %q: want http://HOST:PORT or https://HOST:PORT", e))
			continue
		}
		schemes[u.Scheme] = true
	}
	if len(schemes) > 1 {
		errs = append(errs, errors.New("endpoints: http and https are mixed"))
	}
	if (o.CA != "" || o.Cert != "") && schemes["http"] {
		errs = append(errs, errors.New("endpoints: http, but certificates are given: want https"))
	}
	if (o.Cert == "") != (o.Key == "") {
		errs = append(errs, errors.New("cert, key: want both or none"))
	}
	if (o.User == "") != (o.Password == "") {
		errs = append(errs, errors.New("user, password: want both or none"))
	}
	if o.TTL < 2*time.Second || o.TTL%time.Second != 0 {
		errs = append(errs, fmt.Errorf("ttl: %s: want whole seconds, 2 at least", o.TTL))
	}
	return errors.Join(errs...)
}

// Store is an [overlay.Store] on etcd. It may be used by several goroutines at a
// time; it serves one node: a second Register takes the place of the first.
type Store struct {
	o      Options
	config clientv3.Config
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup // the goroutines of registrations

	dialing chan struct{} // held by who makes the client
	client  *clientv3.Client
	relogin time.Time // when one was made that was to log in anew
	conns   conns
	follows sync.Once // the host's addresses

	registering chan struct{} // held by Register and Withdraw
	mu          sync.Mutex
	current     *registration
	life        life // the zero value: none
	leaving     map[string]context.CancelFunc
}

var (
	_ overlay.Store  = (*Store)(nil)
	_ overlay.Roster = (*Store)(nil)
)

var errClosed = errors.New("the store has been closed")

// Open checks the options and reads the certificates. It does not wait for a
// member: every method does.
func Open(o Options) (*Store, error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("options of the etcd store: %w", err)
	}
	tls, err := o.tls()
	if err != nil {
		return nil, err
	}
	s := &Store{o: o, dialing: make(chan struct{}, 1), registering: make(chan struct{}, 1), leaving: map[string]context.CancelFunc{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.config = clientv3.Config{
		Endpoints:   o.Endpoints,
		TLS:         tls,
		Username:    o.User,
		Password:    o.Password,
		DialTimeout: o.DialTimeout,
		Logger:      zap.NewNop(), // what the caller needs to know is in the errors
		// A member that hangs, or a path that swallows packets. The server allows no
		// shorter time than 5 s, gRPC none than 10 s.
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
		BackoffWaitBetween:   minBackoff,
		MaxUnaryRetries:      8, // of a read
		// gRPC's own limit is two minutes, for which a store that is back would not be
		// noticed.
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: minBackoff, Multiplier: 1.6, Jitter: 0.4, MaxDelay: maxBackoff / 3},
			MinConnectTimeout: o.DialTimeout,
		}), grpc.WithContextDialer(s.conns.dial), grpc.WithChainUnaryInterceptor(failFast, s.logInAnew)},
	}
	if h := o.handshakes(tls); h != nil { // the last one given counts
		s.config.DialOptions = append(s.config.DialOptions, grpc.WithTransportCredentials(h))
	}
	return s, nil
}

// failFast has a request to a store that is away fail at once, with the reason (refused,
// a certificate). Otherwise it waits until its time is up, and says only that.
func failFast(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return next(ctx, method, req, reply, conn, append(opts, grpc.WaitForReady(false))...)
}

// connect returns the client. It exists once a log-in has succeeded, if one is
// needed: etcd's client cannot be made without.
func (s *Store) connect(ctx context.Context) (*clientv3.Client, error) {
	select {
	case s.dialing <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.dialing }()
	if s.ctx.Err() != nil {
		return nil, errClosed
	}
	if s.client != nil {
		return s.client, nil
	}
	// The client lives as long as its context: with the store, but its making ends
	// with the caller.
	config := s.config
	life, cancel := context.WithCancel(s.ctx)
	config.Context = life
	stop := context.AfterFunc(ctx, cancel)
	client, err := clientv3.New(config)
	switch {
	case err != nil:
		cancel()
		return nil, fmt.Errorf("log in to etcd: %w", sentence(err))
	case !stop():
		return nil, errors.Join(ctx.Err(), client.Close())
	}
	s.client = client
	return client, nil
}

// forget has the next call make its own connections and log in anew. One that was being
// made when its server went away can hang for longer than the server is away: gRPC gives
// an attempt 20 s.
func (s *Store) forget(client *clientv3.Client) {
	s.dialing <- struct{}{}
	defer func() { <-s.dialing }()
	if s.client == client && s.ctx.Err() == nil {
		s.client = nil
		_ = client.Close()
	}
}

// bound ends a request in time, and with the store.
func (s *Store) bound(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, d)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// txn runs one transaction: then when all of cmps hold, else the other.
func (s *Store) txn(ctx context.Context, cmps []clientv3.Cmp, then, otherwise []clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := s.bound(ctx, s.o.RequestTimeout)
	defer cancel()
	client, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	resp, err := client.Txn(ctx).If(cmps...).Then(then...).Else(otherwise...).Commit()
	return resp, sentence(err)
}

// Close ends all that the store does, and waits for it. The lease of a node that
// did not Withdraw runs out by itself. lost (see Register) must not call it.
func (s *Store) Close() error {
	s.cancel()
	s.work.Wait()
	s.dialing <- struct{}{}
	defer func() { <-s.dialing }()
	if s.client == nil {
		return nil
	}
	err := s.client.Close()
	s.client = nil
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
