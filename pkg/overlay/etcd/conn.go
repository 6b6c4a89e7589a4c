package etcd

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/berth-cni/berth/pkg/internal/netlink"
)

// conns are the connections to members. One whose own address this host has lost is
// closed at once: the kernel has no route for its packets and goes on trying, so that
// nobody would notice for 3 s (TCP_USER_TIMEOUT, which gRPC sets to the keepalive's).
type conns struct {
	mu  sync.Mutex
	all []*net.TCPConn
}

// dial is gRPC's dialer. It hands out the connection itself: gRPC sets options of no other
// kind.
func (c *conns) dial(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(slices.DeleteFunc(c.all, closed), conn.(*net.TCPConn))
	return conn, nil
}

func closed(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	return err != nil || raw.Control(func(uintptr) {}) != nil
}

// dropOrphans closes the connections from addresses that the host does not have.
func (c *conns) dropOrphans() {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return // they end by their timeout
	}
	var have []netip.Addr
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			addr, _ := netip.AddrFromSlice(n.IP)
			have = append(have, addr.Unmap())
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = slices.DeleteFunc(c.all, func(conn *net.TCPConn) bool {
		addr := conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().WithZone("")
		if addr.IsLoopback() || slices.Contains(have, addr) { // all of 127.0.0.0/8 is the host's
			return false
		}
		_ = conn.Close()
		return true
	})
}

// readdress is how long an address that went may take to come back, or its successor to
// come, before connections from it are closed: a new one is made at once.
const readdress = 50 * time.Millisecond

// watchAddresses closes connections as their addresses go, until the store is closed.
func (s *Store) watchAddresses() {
	l, err := netlink.Listen(unix.NETLINK_ROUTE, 0, []bpf.Instruction{netlink.Pass}, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		s.o.Log.Warn("watch the host's addresses; a connection to etcd from one that goes ends by its timeout", "error", err)
		return
	}
	defer l.Close()
	for {
		if _, err := l.Receive(s.ctx); err != nil && !errors.Is(err, unix.ENOBUFS) { // lost: there were some
			return
		}
		if sleep(s.ctx, readdress) != nil {
			return
		}
		s.conns.dropOrphans()
	}
}
