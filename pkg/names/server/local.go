package server

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/names"
)

// thisHost stands in a client for programs of the host's own, which no interface is called.
const thisHost = "/host"

// hostDomain is the wire form of [names.HostDomain].
var hostDomain = wireName(names.HostDomain)

// listenLocal listens for the host's own programs, where [Config.HostNames] says. What keeps
// it from that is told once; the next sweep tries again. The caller has the lock.
func (s *Server) listenLocal() {
	if !s.config.HostNames.IsValid() || s.local != nil {
		return
	}
	l, err := s.newLocalListener(s.config.HostNames.String())
	if err != nil {
		err = fmt.Errorf("answer DNS for this host: %w", err)
		if s.localErr == nil || s.localErr.Error() != err.Error() {
			s.log.Error("names are not answered", "error", err)
		}
		s.localErr = err
		return
	}
	s.local, s.localErr = l, nil
	s.log.Info("answering DNS for this host", "listen", s.config.HostNames)
}

func (s *Server) newLocalListener(at string) (*listener, error) {
	l := &listener{server: s, bridge: thisHost, conns: map[*net.TCPConn]bool{}}
	var c net.ListenConfig
	udp, err := c.ListenPacket(context.Background(), "udp", at)
	if err != nil {
		return nil, err
	}
	l.udp = append(l.udp, udp.(*net.UDPConn))
	tcp, err := c.Listen(context.Background(), "tcp", at)
	if err != nil {
		l.close()
		return nil, err
	}
	l.tcp = append(l.tcp, tcp.(*net.TCPListener))
	go l.serveUDP(l.udp[0])
	go l.serveTCP(l.tcp[0])
	return l, nil
}

// resolve is the directory's answer to who asks.
func (s *Server) resolve(from client, q *query, a *answer) (verdict, elsewhere) {
	if from.bridge == thisHost {
		return s.directory.resolveLocal(q, a, s.resolvers.local.Load() != nil), elsewhere{}
	}
	return s.directory.resolve(from, q, a)
}

// upstreams are who is asked what the directory does not know.
func (s *Server) upstreams(from client, e elsewhere) *group {
	if from.bridge == thisHost {
		return s.resolvers.local.Load()
	}
	return s.resolvers.of(e.upstreams)
}

// resolveLocal answers the host's own programs: NAME.NETWORK.berth of all networks, and who
// has their addresses. All else is for others: where nobody is to be asked, it is refused, for
// which a resolver asks the next server.
func (d *Directory) resolveLocal(q *query, a *answer, forwards bool) verdict {
	d.mu.RLock()
	defer d.mu.RUnlock()
	name := q.name()
	if rest, ok := cutSuffix(name, hostDomain); ok {
		a.zone = headerLen + len(rest)
		d.inDomain(rest, q, a)
		return answered
	}
	if addr, ok := reverse(name); ok && (d.pointerLocal(addr, q, a) || d.isOurs(addr)) {
		if a.count == 0 && q.qtype == typePTR {
			a.rcode = rcodeNXDomain
		}
		return answered
	}
	switch {
	case !forwards:
		return refused
	case q.qtype == typeANY:
		a.flags = 0
		a.minimal()
		return answered
	}
	return forwarded
}

// inDomain answers for a name without the domain and the root behind.
func (d *Directory) inDomain(name []byte, q *query, a *answer) {
	exists := len(name) == 0 // the domain itself
	for at := 0; at < len(name); at += 1 + int(name[at]) {
		for _, n := range d.suffixes[string(name[at:])+"\x00"] {
			exists = exists || at == 0
			if found := n.names[string(name[:at])]; found != nil {
				a.members(found, q.qtype)
				return
			}
		}
	}
	if !exists {
		a.rcode = rcodeNXDomain
	}
}

// pointerLocal answers for the address of a container. It reports whether one has it.
func (d *Directory) pointerLocal(addr netip.Addr, q *query, a *answer) bool {
	for _, n := range d.networks {
		holder := n.addrs[addr]
		if holder == nil || len(holder.Names) == 0 || n.suffix == "" {
			continue
		}
		full := wireKey(holder.Names[0]) + n.suffix[:len(n.suffix)-1] + hostDomain
		if q.qtype == typePTR && len(full) <= maxName {
			a.pointer(full)
		}
		return true
	}
	return false
}

// loadLocal says who is asked for the host's own programs: those beside this server in the
// host's resolv.conf, if it is there; nobody, if not. Another resolver of this host is not
// among them, since it may ask this one: it is left to be the next in the file. The caller has
// the lock.
func (r *resolvers) loadLocal(servers []netip.Addr) {
	var g *group
	if slices.Contains(servers, r.self) {
		g = r.group(slices.DeleteFunc(slices.Clone(servers), netip.Addr.IsLoopback), nil)
	}
	if g != nil && len(g.servers) == 0 {
		g = nil
	}
	r.local.Store(g)
}
