package names

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoAgent: no agent answers on this host.
var ErrNoAgent = errors.New("no berth agent runs on this host")

// ErrSilent: the agent does not answer in time. It has the request, and does it when
// it goes on, unless that is [DoAdd]: who wants a name is told that there is none.
var ErrSilent = errors.New("the agent does not answer")

// What an agent can be asked to do.
const (
	DoAdd    = "add"    // know the entry, in place of one with its key
	DoDel    = "del"    // forget the entry with that key
	DoCheck  = "check"  // tell whether the entry is known as it is here
	DoStatus = "status" // tell about itself
	DoFind   = "find"   // tell who has the first of the names, or of the addresses
)

// Request is one message to the agent, in JSON, and [Reply] the one that comes back.
// The socket is SOCK_SEQPACKET: a message is a packet. Who may open it is root.
type Request struct {
	Do string `json:"do"`
	Entry
}

// Reply is what the agent answers.
type Reply struct {
	Error  string  `json:"error,omitempty"`
	Status *Status `json:"status,omitempty"`
	Found  []Entry `json:"found,omitempty"`
}

// Status is what an agent tells about its names.
type Status struct {
	Containers int      `json:"containers"` // attachments of this host
	Elsewhere  int      `json:"elsewhere"`  // attachments of other hosts
	Port       int      `json:"port"`       // where it listens, [Port] unless somebody else has that
	Bridges    []string `json:"bridges"`    // on which it listens
	// Deaf are bridges where it should listen and cannot, each with the reason.
	Deaf      map[string]string `json:"deaf,omitempty"`
	Upstreams []string          `json:"upstreams"` // of the host
	// HostNames is where the host's own programs are answered, HostDeaf what keeps the agent
	// from it.
	HostNames string `json:"hostNames,omitempty"`
	HostDeaf  string `json:"hostDeaf,omitempty"`
}

const (
	// MaxMessage is the longest request or reply, in bytes.
	MaxMessage = 128 << 10

	callTime = time.Second
)

// Call asks the agent of a state folder; empty stands for the host's. It takes a
// second at most. [ErrNoAgent] when none runs.
//
// The socket is a blocking one with a timeout of the kernel's: in a process that
// does this once, Go's poller would only cost.
func Call(ctx context.Context, dir string, r Request) (*Status, error) {
	reply, err := call(ctx, dir, r)
	return reply.Status, err
}

// Find asks the agent who is called by a name, NAME or NAME.NETWORK with or without
// [HostDomain] behind, or who has an address: containers of all networks, and of all hosts.
func Find(ctx context.Context, dir, word string) ([]Entry, error) {
	r := Request{Do: DoFind, Entry: Entry{Names: []string{word}}}
	if addr, err := netip.ParseAddr(word); err == nil {
		r.Entry = Entry{Addresses: []netip.Addr{addr.Unmap()}}
	}
	reply, err := call(ctx, dir, r)
	return reply.Found, err
}

func call(ctx context.Context, dir string, r Request) (Reply, error) {
	message, err := json.Marshal(r)
	if err != nil {
		return Reply{}, err
	}
	if len(message) > MaxMessage {
		return Reply{}, fmt.Errorf("the agent takes %d bytes at most, these names have %d", MaxMessage, len(message))
	}
	deadline := time.Now().Add(callTime)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	path := filepath.Join(dir, SocketName)
	data, err := exchange(path, message, deadline)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE):
		return Reply{}, ErrNoAgent // the last two: it has just ended
	case errors.Is(err, unix.EAGAIN):
		return Reply{}, fmt.Errorf("%w on %s", ErrSilent, path)
	case err != nil:
		return Reply{}, fmt.Errorf("ask the agent on %s: %w", path, err)
	case string(data) == "{}":
		return Reply{}, nil
	}
	var reply Reply
	if err := json.Unmarshal(data, &reply); err != nil {
		return Reply{}, fmt.Errorf("reply of the agent on %s: %w", path, err)
	}
	if reply.Error != "" {
		return Reply{}, errors.New(reply.Error)
	}
	return reply, nil
}

// exchange sends one packet and returns the one that comes back. EAGAIN when the
// time is over, ECONNRESET when the other side hung up.
func exchange(path string, message []byte, deadline time.Time) ([]byte, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	err = until(fd, unix.SO_SNDTIMEO, deadline, func() error { return unix.Connect(fd, &unix.SockaddrUnix{Name: path}) })
	if err != nil {
		return nil, err
	}
	err = until(fd, unix.SO_SNDTIMEO, deadline, func() error { return unix.Sendto(fd, message, unix.MSG_NOSIGNAL, nil) })
	if err != nil {
		return nil, err
	}
	buf := make([]byte, 4<<10)
	for {
		n := 0
		err = until(fd, unix.SO_RCVTIMEO, deadline, func() error { // with MSG_TRUNC the packet's whole length
			n, _, err = unix.Recvfrom(fd, buf, unix.MSG_PEEK|unix.MSG_TRUNC)
			return err
		})
		if err != nil {
			return nil, err
		}
		if n == 0 || n > MaxMessage {
			return nil, unix.ECONNRESET
		}
		if n <= len(buf) {
			return buf[:n], nil
		}
		buf = make([]byte, n)
	}
}

// until makes a system call again that a signal of Go's scheduler has interrupted,
// with the time that is left.
func until(fd, timeout int, deadline time.Time, call func() error) error {
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return unix.EAGAIN
		}
		tv := unix.NsecToTimeval(max(left, time.Microsecond).Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, timeout, &tv); err != nil {
			return err
		}
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
