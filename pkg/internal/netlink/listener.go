package netlink

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Listener hears what the kernel tells everybody who is in one of its multicast groups.
// It belongs to the runtime's poller: it is for processes that stay. One goroutine may
// receive while others change the filter, or close it.
type Listener struct {
	file *os.File
	buf  []byte
}

// Listen opens a socket of a protocol in the calling thread's network namespace, and
// joins groups (RTNLGRP_LINK). Nothing reaches it that does not pass the filter, from
// the first message on. buffer is how many bytes of messages wait for [Listener.Receive]
// at most, with the memory that manages them; 0 leaves the kernel's default.
func Listen(protocol, buffer int, filter []bpf.Instruction, groups ...int) (*Listener, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	l := &Listener{file: os.NewFile(uintptr(fd), "netlink events"), buf: make([]byte, recvSize)}
	err = l.SetFilter(filter)
	if err == nil && buffer > 0 {
		err = l.SetBuffer(buffer)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	for _, g := range groups {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen to netlink events: %w", err), l.file.Close())
	}
	return l, nil
}

// Do sends requests from the listener's own address, for what the kernel then sends to who
// asked for it (NFLOG). Nobody receives meanwhile; what comes before the answers is lost.
func (l *Listener) Do(reqs ...*Request) error {
	return l.control(func(fd int) error { return (&Conn{fd: fd}).Do(reqs, nil) })
}

// Close ends it; who receives gets os.ErrClosed.
func (l *Listener) Close() error { return l.file.Close() }

// SetBuffer says how many bytes of messages wait at most. The kernel doubles it.
func (l *Listener) SetBuffer(bytes int) error {
	err := l.control(func(fd int) error {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes) == nil {
			return nil
		}
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, bytes) // in a user namespace
	})
	if err != nil {
		return fmt.Errorf("buffer of netlink events: %w", err)
	}
	return nil
}

func (l *Listener) control(do func(fd int) error) error {
	socket, err := l.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = socket.Control(func(fd uintptr) { failed = do(int(fd)) })
	return errors.Join(err, failed)
}

// SetFilter has the kernel drop what the program returns 0 for (socket(7),
// SO_ATTACH_FILTER), before it reaches the socket. Netlink has the machine's byte order,
// a filter reads the network's: see [Host16] and [Host32].
func (l *Listener) SetFilter(program []bpf.Instruction) error {
	raw, err := bpf.Assemble(program)
	if err != nil {
		return fmt.Errorf("filter netlink events: %w", err)
	}
	code := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		code[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	err = l.control(func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]})
	})
	if err != nil {
		return fmt.Errorf("filter netlink events: %w", err)
	}
	return nil
}

// Receive waits for the next messages, which are valid until it is called again.
// ENOBUFS: some were lost, for which there was no room; it goes on with the next call.
// When the context ends, its error.
func (l *Listener) Receive(ctx context.Context) (iter.Seq[Message], error) {
	// A deadline in the past ends a read that waits.
	defer context.AfterFunc(ctx, func() { _ = l.file.SetReadDeadline(time.Unix(1, 0)) })()
	for {
		if err := l.file.SetReadDeadline(time.Time{}); err != nil {
			return nil, fmt.Errorf("receive netlink events: %w (%w)", os.ErrClosed, err) // its one reason
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := l.file.Read(l.buf)
		switch {
		case err == nil:
			return Messages(l.buf[:n]), nil
		case errors.Is(err, os.ErrDeadlineExceeded): // of this context, or of one that ended before
			continue
		}
		return nil, fmt.Errorf("receive netlink events: %w", err)
	}
}
