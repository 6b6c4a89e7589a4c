package vxlan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

var eventGroups = []int{unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
	unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR}

// eventBuffer has room for some ten thousand events: our own changes of the FDB cause
// one each, which the kernel does not say are ours.
const eventBuffer = 16 << 20

// listen opens a socket that hears what happens to devices, and of which nobody reads
// yet. It does not block: the runtime waits.
func listen() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, eventBuffer)
	f := os.NewFile(uintptr(fd), "netlink events")
	err = setFilter(f, nothing)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	for _, g := range eventGroups {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g)
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("listen to netlink events: %w", err)
	}
	return f, nil
}

// Watch calls changed when somebody else made the kernel differ from what a plane
// wants; once, until that plane's next [Plane.Sync]. It blocks until the context ends
// or the host is closed, with nil, or the socket fails. When events were lost every
// plane may differ. changed is called without a lock; while it runs events wait, and
// are lost at worst. Only one can watch.
func (h *Host) Watch(ctx context.Context, changed func(p *Plane, why string)) error {
	if err := h.hear(true); err != nil {
		return err
	}
	defer func() { _ = h.hear(false) }()
	// A deadline in the past ends a read that waits.
	defer context.AfterFunc(ctx, func() { _ = h.events.SetReadDeadline(time.Unix(1, 0)) })()
	raw, err := h.events.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch netlink events: %w", err)
	}
	buf := make([]byte, recvSize)
	for {
		var n int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			n, failed = receive(int(fd), buf)
			return !errors.Is(failed, unix.EAGAIN)
		})
		switch err := errors.Join(err, failed); {
		case ctx.Err() != nil, errors.Is(err, os.ErrClosed):
			return nil
		case errors.Is(err, unix.ENOBUFS):
			h.tell(changed, func(*Plane) string { return "events were lost" })
		case errors.Is(err, os.ErrDeadlineExceeded): // of the one who watched before
			_ = h.events.SetReadDeadline(time.Time{})
		case err != nil:
			return fmt.Errorf("watch netlink events: %w", err)
		}
		for m := range messages(buf[:max(n, 0)]) {
			h.tell(changed, func(p *Plane) string { return p.contradicts(m) })
		}
	}
}

// hear has the socket hear of our devices, or nothing.
func (h *Host) hear(on bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if on && h.watched {
		return errors.New("watch netlink events: somebody does already")
	}
	h.watched = on
	return errors.Join(h.events.SetReadDeadline(time.Time{}), h.attach())
}

// tell calls changed for the planes that have a reason and have not been told.
func (h *Host) tell(changed func(*Plane, string), reason func(*Plane) string) {
	type news struct {
		plane *Plane
		why   string
	}
	var all []news
	h.mu.Lock()
	for _, p := range h.planes {
		if p.told || p.index == 0 {
			continue
		}
		if why := reason(p); why != "" {
			p.told = true
			all = append(all, news{p, why})
		}
	}
	h.mu.Unlock()
	for _, n := range all {
		changed(n.plane, n.why)
	}
}
