package rtnl

import (
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// NetnsID is the number that the socket's namespace has for the one of a file descriptor
// ([Link.Netns]); -1 when it has none (rtnetlink(7), RTM_GETNSID, kernel 4.0).
func (c *Conn) NetnsID(fd int) (int32, error) {
	const fdAttr, idAttr = 3, 1 // NETNSA_FD, NETNSA_NSID of linux/net_namespace.h
	question := netlink.NewQuestion(unix.RTM_GETNSID, []byte{unix.AF_UNSPEC, 0, 0, 0}).Uint32(fdAttr, uint32(fd))
	return ask(c, question, func(m netlink.Message) (int32, bool) {
		id := m.Find(4, idAttr)
		return int32(netlink.Uint32(id)), m.Kind == unix.RTM_NEWNSID && len(id) == 4
	})
}
