// Package server is the DNS server of the host's agent: it answers for the containers
// of the networks with names, and forwards the rest.
//
// A query is read, looked up and answered in one goroutine for each bridge and family
// (udp.go), over the buffer that it came in: what is in the [Directory] or the cache
// never waits for anything. What is not is copied and goes to the forwarder, which has
// bounds of its own. Package names says where the server listens, and why.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/names"
	"golang.org/x/sys/unix"
)

const (
	sweepEvery = time.Second
	linger     = 3 * time.Second
)

// Processors is what the agent's GOMAXPROCS should be: two more than the machine has.
// Go's scheduler looks for packets when a processor of its own is idle, else every
// 10 ms; with two to spare the kernel wakes who reads them, however busy the forwarder
// or the agent's other parts are.
func Processors() int { return runtime.NumCPU() + 2 }

// Config is what a server needs.
type Config struct {
	// StateDir is the folder of the socket; empty is the host's.
	StateDir string
	// Records are what the directory is filled from at start; nil for none.
	Records *attach.Store
	// ResolvConf is the host's file of resolvers; empty is /etc/resolv.conf.
	ResolvConf string
	// OnDemand has the server end when the last container of this host is gone, for
	// Linger (3 s if 0): one that starts again at once finds it.
	OnDemand bool
	Linger   time.Duration
	// Redirect has what containers ask redirected to another port than [names.Port], or
	// to that one again: it is called whenever it may have to be. nil: nobody can, and
	// the port has to be free.
	Redirect func(port uint16) error
	// HostNames is the address and port at which the host's own programs are answered, of
	// loopback; invalid: nowhere.
	HostNames netip.AddrPort
	Log       *slog.Logger
}

// Server is the names of one host. Its socket is where plugins tell it about
// containers, [Server.Directory] where an overlay tells it about those of other hosts.
type Server struct {
	config    Config
	log       *slog.Logger
	directory *Directory
	resolvers *resolvers
	forwarder *forwarder
	links     *links
	ready     chan struct{}

	mu        sync.Mutex // of a change, from the listener to the directory
	port      int        // where it listens
	ctx       context.Context
	listeners map[string]*listener
	deaf      map[string]error // bridges without a listener
	local     *listener        // of the host's own programs
	localErr  error
	changed   bool      // the bridges, since the last sweep
	used      time.Time // when the last container was there
	ended     bool
}

// New makes a server, which does nothing before [Server.Run].
func New(c Config) *Server {
	if c.StateDir == "" {
		c.StateDir = attach.New("", nil).Dir()
	}
	if c.ResolvConf == "" {
		c.ResolvConf = resolvConf
	}
	if c.Linger == 0 {
		c.Linger = linger
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	d := NewDirectory()
	s := &Server{
		config: c, log: c.Log, directory: d, forwarder: newForwarder(c.Log), links: newLinks(c.Records, c.Log),
		resolvers: newResolvers(c.ResolvConf, func() []string { _, _, b := d.counts(); return b }, c.Log),
		port:      names.Port, ready: make(chan struct{}), listeners: map[string]*listener{}, deaf: map[string]error{},
	}
	if c.HostNames.Port() == dnsPort {
		s.resolvers.self = c.HostNames.Addr()
	}
	return s
}

// Directory is where names are kept.
func (s *Server) Directory() *Directory { return s.directory }

// Ready is closed when the names of this host's records resolve.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Run serves until the context ends, or nobody needs the server any more
// ([Config.OnDemand]); both are no error. The caller holds the lock of the host's
// agent. A server runs once.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.ctx, s.used = ctx, time.Now()
	// The socket comes first: a DEL that finds none has said so in its record, which
	// is read after it.
	control, err := listenControl(filepath.Join(s.config.StateDir, names.SocketName))
	if err != nil {
		return err
	}
	defer control.Close()
	defer s.closeListeners()
	if err := s.redirect(); err != nil { // to where one before this was
		s.log.Warn("names may not be answered", "error", err)
	}
	if err := s.load(ctx); err != nil {
		return err
	}
	s.resolvers.load(true)
	s.mu.Lock()
	s.listenLocal()
	s.mu.Unlock()
	go s.follow(ctx)
	go s.serveControl(control)
	close(s.ready)
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if s.sweep(control) {
				return nil
			}
		}
	}
}

// load fills the directory from the records. Those that cannot be read are told.
func (s *Server) load(ctx context.Context) error {
	if s.config.Records == nil {
		return nil
	}
	all, err := s.config.Records.List(ctx, "")
	if err != nil && all == nil {
		return fmt.Errorf("read the names from the records: %w", err)
	}
	if err != nil {
		s.log.Warn("names of some containers are unknown", "error", err)
	}
	for _, a := range all {
		for _, step := range a.Steps {
			if r, ok := step.(*names.Register); ok && !a.Deleting {
				s.put(r.Entry(a))
			}
		}
	}
	return nil
}

// put listens for an entry's queries and then knows it. The error is that it cannot
// listen; it will try again.
func (s *Server) put(e names.Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return errEnded
	}
	s.directory.Put(e)
	return s.listen(e.Bridge)
}

// remove forgets an entry, and stops listening when it was the last one of its
// bridge.
func (s *Server) remove(k attach.Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return errEnded
	}
	s.directory.Delete(k)
	s.used = time.Now()
	s.closeUnused()
	return nil
}

// Has tells whether an attachment of this host is known.
func (s *Server) Has(k attach.Key) bool {
	_, ok := s.directory.Get(k)
	return ok
}

// Forget is for an attachment that has gone without a DEL.
func (s *Server) Forget(k attach.Key) { _ = s.remove(k) } // a server that ends forgets all

// listen has a listener on the bridge as it is now: one that was made again is another
// interface of the same name. The caller has the lock.
func (s *Server) listen(bridge string) error {
	index, err := indexOf(bridge)
	if l := s.listeners[bridge]; l != nil {
		if err == nil && l.index == index {
			return nil
		}
		l.close()
		delete(s.listeners, bridge)
	}
	var l *listener
	switch {
	case err != nil:
	case bridge == names.AnyInterface && len(s.listeners) > 0:
		if l = s.listenBeside(bridge, index); l == nil {
			err = unix.EADDRINUSE
		}
	default:
		l, err = s.newListener(bridge, index)
	}
	if errors.Is(err, unix.EADDRINUSE) {
		l, err = s.anotherPort(bridge, index)
	}
	if err != nil {
		err = fmt.Errorf("answer DNS on %s: %w", bridge, err)
		if s.deaf[bridge] == nil || s.deaf[bridge].Error() != err.Error() {
			s.log.Warn("names are not answered", "bridge", bridge, "error", err)
		}
		s.deaf[bridge] = err
		return err
	}
	s.listeners[bridge], s.changed = l, true
	delete(s.deaf, bridge)
	s.log.Info("answering DNS", "bridge", bridge)
	return nil
}

func (s *Server) closeUnused() {
	_, _, bridges := s.directory.counts()
	for name, l := range s.listeners {
		if !slices.Contains(bridges, name) {
			l.close()
			delete(s.listeners, name)
			s.changed = true
		}
	}
	maps.DeleteFunc(s.deaf, func(name string, _ error) bool { return !slices.Contains(bridges, name) })
}

func (s *Server) closeListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for _, l := range s.listeners {
		l.close()
	}
	if s.local != nil {
		s.local.close()
	}
}

// sweep mends the listeners, and reports whether the server is not needed any more. It
// then takes no more changes: who comes now starts another.
func (s *Server) sweep(control *net.UnixListener) (over bool) {
	s.forwarder.forget(time.Now())
	s.mu.Lock()
	defer s.mu.Unlock()
	local, _, bridges := s.directory.counts()
	for _, b := range bridges {
		_ = s.listen(b) // it is told once
	}
	s.listenLocal()
	s.closeUnused()
	if s.port != names.Port && len(s.listeners) > 0 { // somebody may have flushed the firewall
		if err := s.redirect(); err != nil {
			s.log.Warn("names are not answered", "error", err)
		}
	}
	if s.changed {
		s.changed = false
		s.resolvers.load(true)
	}
	if local > 0 {
		s.used = time.Now()
	}
	if s.config.OnDemand && time.Since(s.used) >= s.config.Linger {
		s.ended = true
		control.Close()
		return true
	}
	return false
}

// follow reads the host's resolvers again when they change. Answers of others are not
// kept.
func (s *Server) follow(ctx context.Context) {
	if err := s.resolvers.follow(ctx, s.forwarder.cache.clear); err != nil {
		s.log.Error("changes of the host's resolvers are not seen", "error", err)
	}
}

// Status tells about the server.
func (s *Server) Status() *names.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &names.Status{Port: s.port, Bridges: slices.Sorted(maps.Keys(s.listeners))}
	st.Containers, st.Elsewhere, _ = s.directory.counts()
	if s.local != nil {
		st.HostNames = s.config.HostNames.String()
	}
	if s.localErr != nil {
		st.HostDeaf = s.localErr.Error()
	}
	for name, err := range s.deaf {
		if st.Deaf == nil {
			st.Deaf = map[string]string{}
		}
		st.Deaf[name] = err.Error()
	}
	if g := s.resolvers.host.Load(); g != nil {
		for _, u := range g.servers {
			st.Upstreams = append(st.Upstreams, u.addr.Addr().String())
		}
	}
	return st
}
