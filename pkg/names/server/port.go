package server

import (
	"errors"
	"fmt"
	"net"

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
	for name, old := range s.listeners {
		old.close()
		again, err := s.newListener(name, old.index)
		if err != nil { // the next sweep tries again
			delete(s.listeners, name)
			continue
		}
		s.listeners[name] = again
	}
	if err := s.redirect(); err != nil { // the next sweep tries again
		l.close()
		return nil, err
	}
	return l, nil
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
