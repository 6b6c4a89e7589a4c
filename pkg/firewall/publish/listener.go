package publish

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// ErrNotLocal: a port is to be published on an address of another host.
var ErrNotLocal = errors.New("is not an address of this host")

// Listener tells whether a process of this network namespace listens on the host
// port: "nginx (pid 812)", or empty when none does. Publishing such a port would
// take it away from the process without a word.
//
// It tries to bind the port. Only when it is in use does it look who uses it: a
// port that only an established connection holds is free to be published.
// [ErrNotLocal] when the port's host address is not one of this host's.
//
// A process with the container's ID in its command line, or a child of such a process, is
// the container's own: podman's conmon keeps the ports that it asks for bound, and a process
// under containerd's shim does for nerdctl. Addresses in soon count as this host's: they are
// about to be.
func Listener(p attach.Port, container string, soon ...netip.Addr) (holder string, err error) {
	proto, ok := p.ProtocolNumber()
	if !ok {
		return "", nil
	}
	for _, ip := range p.HostIPs() {
		at := netip.AddrPortFrom(ip, p.HostPort)
		holder, err := listenerOn(proto, at, container, slices.Contains(soon, ip))
		if err != nil {
			return "", fmt.Errorf("publish %s: %w", p, err)
		}
		if holder != "" {
			return holder, nil
		}
	}
	return "", nil
}

func listenerOn(proto uint8, at netip.AddrPort, container string, soon bool) (string, error) {
	err := tryBind(proto, at, soon)
	switch {
	case err == nil:
		return "", nil
	case errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EPROTONOSUPPORT),
		errors.Is(err, unix.ESOCKTNOSUPPORT):
		return "", nil // nobody can listen
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return "", fmt.Errorf("%s %w", at.Addr(), ErrNotLocal)
	case !errors.Is(err, unix.EADDRINUSE):
		return "", fmt.Errorf("try the port: %w", err)
	}
	if proto == unix.IPPROTO_SCTP {
		return "an SCTP socket", nil
	}
	inode, err := listeningSocket(proto, at)
	if err != nil || inode == 0 {
		return "", err
	}
	return owner(inode, container), nil
}

// tryBind binds a socket and closes it. It does not share the address
// (SO_REUSEADDR, SO_REUSEPORT): a UDP port in use could then be bound again. free is
// for an address that the host does not have yet (IP_FREEBIND, ip(7)).
func tryBind(proto uint8, at netip.AddrPort, free bool) error {
	kind := unix.SOCK_STREAM
	if proto == unix.IPPROTO_UDP {
		kind = unix.SOCK_DGRAM
	}
	var family int
	var sa unix.Sockaddr
	if at.Addr().Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	} else {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, int(proto))
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if family == unix.AF_INET6 { // :: alone, without the IPv4 port
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return err
		}
	}
	if free {
		level, option := unix.IPPROTO_IP, unix.IP_FREEBIND
		if family == unix.AF_INET6 {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
		}
		if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
			return err
		}
	}
	return unix.Bind(fd, sa)
}

// sock_diag(7), linux/inet_diag.h.
const (
	diagByFamily = 20 // SOCK_DIAG_BY_FAMILY
	diagLen      = 72 // of struct inet_diag_msg
	diagV6Only   = 11 // INET_DIAG_SKV6ONLY
	stateClose   = 7  // TCP_CLOSE: a UDP socket that is not connected
	stateListen  = 10 // TCP_LISTEN
)

// listeningSocket returns the inode of a socket that receives what is sent to
// the address and port; 0 when there is none.
func listeningSocket(proto uint8, at netip.AddrPort) (inode uint32, err error) {
	families := []uint8{unix.AF_INET6} // [::] receives IPv4 too
	if at.Addr().Is4() {
		families = append(families, unix.AF_INET)
	}
	for _, family := range families {
		found, err := waiting(proto, family, func(msg []byte) (uint32, bool) {
			if !receives(msg, at) {
				return 0, false
			}
			return binary.NativeEndian.Uint32(msg[68:]), true
		})
		if err != nil || len(found) > 0 {
			return slices.Max(append(found, 0)), err
		}
	}
	return 0, nil
}

// receives decodes an inet_diag_msg: family, state, timer, retrans, then ports
// (big endian) and addresses of both ends.
func receives(msg []byte, at netip.AddrPort) bool {
	if len(msg) < diagLen || binary.BigEndian.Uint16(msg[4:]) != at.Port() {
		return false
	}
	raw := msg[8:12]
	if msg[0] == unix.AF_INET6 {
		raw = msg[8:24]
	}
	local, _ := netip.AddrFromSlice(raw)
	local = local.Unmap()
	if local.Is4() == at.Addr().Is4() {
		return local == at.Addr() || local.IsUnspecified() || at.Addr().IsUnspecified()
	}
	only := netlink.Find(msg[diagLen:], diagV6Only)
	return at.Addr().Is4() && local.IsUnspecified() && !(len(only) == 1 && only[0] == 1)
}

// waiting lists the sockets of the protocol and family that wait for somebody to come
// (struct inet_diag_req_v2); none of a protocol that the kernel does not have.
func waiting(proto, family uint8, parse func(msg []byte) (inode uint32, ok bool)) ([]uint32, error) {
	c, err := netlink.Dial(unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	states := uint32(1 << stateListen)
	if proto == unix.IPPROTO_UDP {
		states = 1 << stateClose
	}
	req := make([]byte, 56)
	req[0], req[1] = family, proto
	binary.NativeEndian.PutUint32(req[4:], states)
	inodes, err := netlink.List(c, netlink.NewQuestion(diagByFamily, req), nil,
		func(m netlink.Message) (uint32, bool) { return parse(m.Body) })
	if netlink.Refusals(err) != nil || errors.Is(err, netlink.ErrInterrupted) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("list sockets: %w", err)
	}
	return inodes, nil
}

// minID is the length from which on an ID is not found in a command line by chance.
const minID = 12

// owner names the process that has the socket, by its inode; empty when one that has it is
// the container's own. A process that is out of our sight leaves only the inode.
func owner(inode uint32, container string) string {
	link := fmt.Sprintf("socket:[%d]", inode)
	holder := ""
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err != nil || to != link {
			continue
		}
		pid := strings.Split(fd, "/")[2]
		if ofContainer(pid, attach.RuntimeID(container)) {
			return ""
		}
		if holder == "" {
			name, _ := os.ReadFile(filepath.Join("/proc", pid, "comm"))
			holder = fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), pid)
		}
	}
	return cmp.Or(holder, fmt.Sprintf("a process that cannot be seen from here (socket inode %d)", inode))
}

// ofContainer tells whether a process, or one that it descends from, has the container's ID
// in its command line.
func ofContainer(pid, id string) bool {
	if len(id) < minID {
		return false
	}
	const most = 8 // generations; a shim's parent is the first process
	for range most {
		line, err := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
		if err != nil {
			return false
		}
		if bytes.Contains(line, []byte(id)) {
			return true
		}
		stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
		if err != nil {
			return false
		}
		// proc(5): PID (NAME) STATE PARENT; the name may have anything.
		after := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(after) < 2 || after[1] == "0" || after[1] == "1" {
			return false
		}
		pid = after[1]
	}
	return false
}
