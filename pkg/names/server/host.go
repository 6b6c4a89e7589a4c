package server

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/berth-cni/berth/pkg/internal/filewatch"
)

const dnsPort = 53

// resolvers are all upstreams: the host's, and those that networks have of their own.
type resolvers struct {
	file     string // resolv.conf
	resolved string // of systemd-resolved
	bridges  func() []string
	log      *slog.Logger

	self netip.Addr // where this server answers the host itself; invalid: nowhere that a resolv.conf can name

	host  atomic.Pointer[group]
	local atomic.Pointer[group] // for the host's own programs; nil: nobody is asked for them
	read  [2][]byte             // the files, as of the last look

	mu     sync.Mutex
	known  map[netip.AddrPort]*upstream
	groups map[string]*group // by the addresses' bytes
}

func newResolvers(file string, bridges func() []string, log *slog.Logger) *resolvers {
	return &resolvers{file: file, resolved: resolvedConf, bridges: bridges, log: log,
		known: map[netip.AddrPort]*upstream{}, groups: map[string]*group{}}
}

// of returns the group of a network's own upstreams, or the host's.
func (r *resolvers) of(upstreams []netip.Addr) *group {
	if len(upstreams) == 0 {
		return r.host.Load()
	}
	var buf [128]byte
	key := buf[:0]
	for _, a := range upstreams {
		key = append(a.AppendTo(key), ' ')
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.groups[string(key)]
	if g == nil {
		g = r.group(upstreams, nil)
		r.groups[string(key)] = g
	}
	return g
}

// group makes a group of all but ourselves. The caller has the lock.
func (r *resolvers) group(servers, behind []netip.Addr) *group {
	return newGroup(r.others(servers), r.others(behind), func(a netip.AddrPort) *upstream {
		if r.known[a] == nil {
			r.known[a] = &upstream{addr: a}
		}
		return r.known[a]
	})
}

// others are the servers that are not ourselves.
func (r *resolvers) others(addrs []netip.Addr) (to []netip.AddrPort) {
	for _, a := range addrs {
		if a == r.self { // as it is to be
			continue
		}
		if r.isOwn(a) {
			r.log.Warn("an upstream resolver is this agent itself: it is not asked", "address", a)
			continue
		}
		to = append(to, netip.AddrPortFrom(a, dnsPort))
	}
	return to
}

// isOwn reports whether the address is one of a bridge on which we answer (aardvark-dns
// #855: a resolv.conf that names the gateway). From this host somebody else would
// answer there, or nobody; from a resolver in a container it would be us.
func (r *resolvers) isOwn(a netip.Addr) bool {
	for _, name := range r.bridges() {
		bridge, err := net.InterfaceByName(name)
		if err != nil {
			continue
		}
		addrs, _ := bridge.Addrs()
		if slices.ContainsFunc(addrs, func(own net.Addr) bool {
			n, ok := own.(*net.IPNet)
			return ok && n.IP.Equal(a.AsSlice())
		}) {
			return true
		}
	}
	return false
}

// load reads the host's servers, if their files have changed since the last time, or
// the bridges have. It reports whether it did.
func (r *resolvers) load(bridges bool) bool {
	first, _ := os.ReadFile(r.file)
	second, _ := os.ReadFile(r.resolved)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !bridges && r.host.Load() != nil && bytes.Equal(r.read[0], first) && bytes.Equal(r.read[1], second) {
		return false
	}
	r.read = [2][]byte{first, second}
	servers, behind, err := hostServers(r.file, r.resolved)
	if err != nil {
		r.log.Warn("the host has no resolvers for what is no container's name", "error", err)
	}
	clear(r.groups)
	r.loadLocal(servers)
	g := r.group(servers, behind)
	if old := r.host.Swap(g); old == nil || old.key != g.key {
		r.log.Info("upstream resolvers of the host", "servers", g.key)
	}
	return true
}

// follow loads the servers again whenever their files change.
func (r *resolvers) follow(ctx context.Context, changed func()) error {
	return filewatch.Watch(ctx, settle, func() {
		if r.load(false) {
			changed()
		}
	}, r.file, r.resolved)
}
