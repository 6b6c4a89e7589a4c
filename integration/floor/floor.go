// Package floor is the least that the kernel has to do for one container on a
// bridge: a veth pair into its namespace, an address, a default route. What a
// plugin takes beyond it is the plugin's own. [Macvlan] is the same for a container
// on a macvlan.
//
// It speaks raw netlink (rtnetlink(7)), keeps nothing, and checks only what the
// kernel answers.
package floor

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Link is one container's interface.
type Link struct {
	Bridge  int    // index of the bridge
	Name    string // of the host's end; at most 15 characters
	Peer    string // of the container's end
	MAC     [6]byte
	Netns   string       // path of the container's namespace
	Address netip.Prefix // IPv4, with the subnet's length
	Gateway netip.Addr
}

// Add makes the link. The calling goroutine must be locked to its thread
// ([runtime.LockOSThread]); the thread is in the host's network namespace before
// and after.
func Add(l Link) error {
	ns, err := os.Open(l.Netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	s, err := open()
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.send(l.newLink(int(ns.Fd()))); err != nil {
		return fmt.Errorf("add veth %s: %w", l.Name, err)
	}
	return l.configure(int(ns.Fd()))
}

// configure gives the container's end what it has, in the container's namespace.
func (l Link) configure(ns int) error {
	inner, err := openIn(ns)
	if err != nil {
		return err
	}
	defer inner.close()
	index, err := inner.index(l.Peer)
	if err != nil {
		return err
	}
	// Three messages in one write, each acknowledged.
	batch := append(append(setUp(index), l.newAddress(index)...), l.newRoute()...)
	if err := inner.send(batch); err != nil {
		return fmt.Errorf("set up %s: %w", l.Peer, err)
	}
	return nil
}

// Del removes the link by the name of the host's end, in the calling thread's
// network namespace.
func Del(name string) error {
	s, err := open()
	if err != nil {
		return err
	}
	defer s.close()
	return s.delete(name)
}

func (s *socket) delete(name string) error {
	m := newMessage(unix.RTM_DELLINK, 0, link(0, 0, 0))
	m.attr(unix.IFLA_IFNAME, cstring(name))
	if err := s.send(m.bytes()); err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	return nil
}

// openIn opens a socket in another namespace.
func openIn(ns int) (*socket, error) {
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer own.Close()
	if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter namespace: %w", err)
	}
	s, err := open()
	if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.Goexit() // not in the host's namespace any more
	}
	return s, err
}

const vethInfoPeer = 1 // VETH_INFO_PEER, linux/veth.h

// newLink makes both ends with one message: the host's end on the bridge and up.
func (l Link) newLink(ns int) []byte {
	m := newMessage(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, link(0, unix.IFF_UP, unix.IFF_UP))
	m.attr(unix.IFLA_IFNAME, cstring(l.Name))
	m.attr(unix.IFLA_MASTER, u32(l.Bridge))
	m.nest(unix.IFLA_LINKINFO, func() {
		m.attr(unix.IFLA_INFO_KIND, []byte("veth"))
		m.nest(unix.IFLA_INFO_DATA, func() {
			m.nest(vethInfoPeer, func() {
				m.raw(link(0, 0, 0))
				m.attr(unix.IFLA_IFNAME, cstring(l.Peer))
				m.attr(unix.IFLA_ADDRESS, l.MAC[:])
				m.attr(unix.IFLA_NET_NS_FD, u32(ns))
			})
		})
	})
	return m.bytes()
}

func setUp(index int) []byte {
	return newMessage(unix.RTM_NEWLINK, 0, link(index, unix.IFF_UP, unix.IFF_UP)).bytes()
}

func (l Link) newAddress(index int) []byte {
	head := make([]byte, unix.SizeofIfAddrmsg)
	head[0], head[1] = unix.AF_INET, byte(l.Address.Bits())
	binary.NativeEndian.PutUint32(head[4:], uint32(index))
	m := newMessage(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, head)
	m.attr(unix.IFA_LOCAL, l.Address.Addr().AsSlice())
	m.attr(unix.IFA_ADDRESS, l.Address.Addr().AsSlice())
	return m.bytes()
}

// newRoute is the default route through the gateway.
func (l Link) newRoute() []byte {
	head := make([]byte, unix.SizeofRtMsg)
	head[0], head[4], head[5] = unix.AF_INET, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT
	head[6], head[7] = unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST
	m := newMessage(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, head)
	m.attr(unix.RTA_GATEWAY, l.Gateway.AsSlice())
	return m.bytes()
}
