package server

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"

	"github.com/berth-cni/berth/pkg/names"
	"golang.org/x/sys/unix"
)

// anotherPort listens on the bridge where somebody else has the server's port: at a port
// that is free, to which what containers ask is redirected from then on.
func (s *Server) anotherPort(bridge string, index int) (*listener, error) {
	if s.config.Redirect == nil {
		return nil, fmt.Errorf("port %d: %w", s.port, unix.EADDRINUSE)
	}
	var l *listener
	err := error(unix.EADDRINUSE)
	const tries = 10 // the port may be taken by TCP, or in the other family
	for i := 0; i < tries && errors.Is(err, unix.EADDRINUSE); i++ {
		var port int
		if port, err = freePort(); err == nil {
			s.port = port
			l, err = s.newListener(bridge, index)
		}
	}
	if err != nil {
		return nil, err
	}
	s.log.Warn("somebody else has the port for names: another one is used", "port", names.Port, "other", s.port)
	l.close()
	if l = s.listenBeside(bridge, index); l == nil {
		return nil, fmt.Errorf("port %d: %w", s.port, unix.EADDRINUSE)
	}
	if err := s.redirect(); err != nil { // the next sweep tries again
		l.close()
		delete(s.listeners, bridge)
		return nil, err
	}
	return l, nil
}

// listenBeside has all listeners made anew, with one more on a bridge, which it returns, and nil
// if that cannot be. That of networks without a bridge comes first: of sockets that share a port
// the kernel takes the one that was bound last, whether it is bound to an interface or not
// (inet_lhash2_lookup and udp4_lib_lookup2 of net/ipv4, which go no further than to the first
// group).
func (s *Server) listenBeside(bridge string, index int) *listener {
	all := map[string]int{bridge: index}
	for name, old := range s.listeners {
		old.close()
		all[name] = old.index
	}
	clear(s.listeners)
	order := slices.Sorted(maps.Keys(all))
	if i := slices.Index(order, names.AnyInterface); i > 0 {
		order = slices.Insert(slices.Delete(order, i, i+1), 0, names.AnyInterface)
	}
	for _, name := range order {
		if l, err := s.newListener(name, all[name]); err == nil { // else the next sweep tries again
			s.listeners[name] = l
		}
	}
	return s.listeners[bridge]
}

func freePort() (int, error) {
	c, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port, nil
}

// redirect has what containers ask redirected to the server's port.
func (s *Server) redirect() error {
	if s.config.Redirect == nil {
		return nil
	}
	if err := s.config.Redirect(uint16(s.port)); err != nil {
		return fmt.Errorf("redirect questions for names to port %d: %w", s.port, err)
	}
	return nil
}
