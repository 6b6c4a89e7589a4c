package floor

import (
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Macvlan is one container's interface on the network of a host's interface.
type Macvlan struct {
	Master  int    // index of the host's interface
	Name    string // in the container; at most 15 characters
	MAC     [6]byte
	Netns   string       // path of the container's namespace
	Address netip.Prefix // IPv4, with the subnet's length
	Gateway netip.Addr
}

// Add makes the interface, in the container's namespace at once. The calling
// goroutine must be locked to its thread, as for [Add].
func (m Macvlan) Add() error {
	ns, err := os.Open(m.Netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	s, err := open()
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.send(m.newLink(int(ns.Fd()))); err != nil {
		return fmt.Errorf("add macvlan %s: %w", m.Name, err)
	}
	return Link{Peer: m.Name, Address: m.Address, Gateway: m.Gateway}.configure(int(ns.Fd()))
}

// Del removes the interface, which is in the container's namespace only. The
// calling goroutine must be locked to its thread.
func (m Macvlan) Del() error {
	ns, err := os.Open(m.Netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	inner, err := openIn(int(ns.Fd()))
	if err != nil {
		return err
	}
	defer inner.close()
	return inner.delete(m.Name)
}

// linux/if_link.h
const (
	macvlanMode       = 1 // IFLA_MACVLAN_MODE
	macvlanModeBridge = 4 // MACVLAN_MODE_BRIDGE
)

func (m Macvlan) newLink(ns int) []byte {
	msg := newMessage(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, link(0, 0, 0))
	msg.attr(unix.IFLA_IFNAME, cstring(m.Name))
	msg.attr(unix.IFLA_ADDRESS, m.MAC[:])
	msg.attr(unix.IFLA_LINK, u32(m.Master))
	msg.attr(unix.IFLA_NET_NS_FD, u32(ns))
	msg.nest(unix.IFLA_LINKINFO, func() {
		msg.attr(unix.IFLA_INFO_KIND, []byte("macvlan"))
		msg.nest(unix.IFLA_INFO_DATA, func() { msg.attr(macvlanMode, u32(macvlanModeBridge)) })
	})
	return msg.bytes()
}
