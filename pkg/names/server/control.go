package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/berth-cni/berth/pkg/names"
	"golang.org/x/sys/unix"
)

// controlTime is how long a plugin may take to say what it wants.
const controlTime = 5 * time.Second

// errEnded: the server is about to end. Nobody is told: who asked finds no agent, and
// starts one.
var errEnded = errors.New("the agent ends")

// listenControl listens where plugins ask. What an agent that died has left is
// replaced: the caller is the only agent. Only root may open it.
func listenControl(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove a dead agent's socket: %w", err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("listen for plugins: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("listen for plugins: %w", err)
	}
	return l, nil
}

var requests = sync.Pool{New: func() any { return new([names.MaxMessage]byte) }}

func (s *Server) serveControl(l *net.UnixListener) {
	for {
		conn, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // too many open files: a moment later there may be fewer
			s.log.Error("accept a plugin", "error", err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		go s.control(conn)
	}
}

// control answers one plugin.
func (s *Server) control(conn *net.UnixConn) {
	defer conn.Close()
	defer survive(s.log, "a plugin's request")
	conn.SetDeadline(time.Now().Add(controlTime))
	buf := requests.Get().(*[names.MaxMessage]byte)
	defer requests.Put(buf)
	n, err := conn.Read(buf[:])
	var r names.Request
	if err == nil {
		err = json.Unmarshal(buf[:n], &r)
	}
	var reply names.Reply
	if err == nil && r.Do == names.DoAdd && hungUp(conn) {
		return
	}
	if err == nil {
		reply, err = s.do(r)
	}
	if errors.Is(err, errEnded) {
		return
	}
	if err != nil {
		reply.Error = err.Error()
	}
	if data, err := json.Marshal(reply); err == nil {
		_, _ = conn.Write(data) // who has gone asked for nothing
	}
}

// hungUp reports whether the plugin waits no more. What it asked for while the agent
// stood still is not to be done: it has told its runtime that the ADD failed, no DEL
// follows that would find a record, and the name would stay.
func hungUp(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		gone = n == 0 && err == nil
	})
	return gone || err != nil
}

func (s *Server) do(r names.Request) (reply names.Reply, err error) {
	switch r.Do {
	case names.DoAdd:
		err = s.add(r.Entry)
	case names.DoDel:
		err = s.remove(r.Key)
	case names.DoCheck:
		err = s.check(r.Entry)
	case names.DoStatus:
		reply.Status = s.Status()
	case names.DoFind:
		reply.Found = s.directory.Find(r.Entry)
	default:
		err = fmt.Errorf("this agent does not know how to %q", r.Do)
	}
	return reply, err
}

// add takes a container, or nothing of it when its queries could not be answered.
func (s *Server) add(e names.Entry) error {
	if e.Bridge == "" || e.Container == "" || e.Network == "" {
		return fmt.Errorf("a container %q of network %q on bridge %q: want all three", e.Container, e.Network, e.Bridge)
	}
	for _, name := range append(slices.Collect(maps.Keys(e.Links)), e.Names...) {
		if err := names.Valid(name); err != nil {
			return fmt.Errorf("name %q: %w", name, err)
		}
	}
	err := s.put(e)
	if err != nil && !errors.Is(err, errEnded) {
		err = errors.Join(err, s.remove(e.Key))
	}
	return err
}

// check tells whether the entry is known as it is, and its bridge listened on.
func (s *Server) check(e names.Entry) error {
	have, ok := s.directory.Get(e.Key)
	if !ok {
		return fmt.Errorf("the agent does not know %s", e.Key)
	}
	if !reflect.DeepEqual(have, e) {
		return fmt.Errorf("the agent knows other names of %s: %v", e.Key, have.Names)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listen(e.Bridge)
}

// survive is deferred where a bug must not end the agent.
func survive(log *slog.Logger, what string) {
	if v := recover(); v != nil {
		log.Error("bug in the names' server", "in", what, "panic", v)
	}
}
