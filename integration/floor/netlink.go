package floor

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// message is a netlink message being built. NLM_F_REQUEST and NLM_F_ACK are set.
type message struct{ b []byte }

// newMessage starts a message with its family's fixed header.
func newMessage(kind uint16, flags uint16, head []byte) *message {
	m := &message{make([]byte, unix.SizeofNlMsghdr, 256)}
	binary.NativeEndian.PutUint16(m.b[4:], kind)
	binary.NativeEndian.PutUint16(m.b[6:], flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m.raw(head)
	return m
}

func (m *message) bytes() []byte {
	binary.NativeEndian.PutUint32(m.b, uint32(len(m.b)))
	return m.b
}

func (m *message) raw(p []byte) {
	m.b = append(m.b, p...)
	for len(m.b)%unix.NLMSG_ALIGNTO != 0 {
		m.b = append(m.b, 0)
	}
}

func (m *message) attr(kind int, value []byte) {
	m.nest(kind, func() { m.b = append(m.b, value...) })
}

func (m *message) nest(kind int, inside func()) {
	start := len(m.b)
	m.b = append(m.b, 0, 0, 0, 0)
	inside()
	binary.NativeEndian.PutUint16(m.b[start:], uint16(len(m.b)-start))
	binary.NativeEndian.PutUint16(m.b[start+2:], uint16(kind))
	m.raw(nil)
}

// link is struct ifinfomsg.
func link(index int, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], change)
	return b
}

func cstring(s string) []byte { return append([]byte(s), 0) }

func u32(v int) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(v)) }

type socket int

// open opens a netlink socket in the calling thread's network namespace.
func open() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	s := socket(fd)
	return &s, nil
}

func (s *socket) close() { unix.Close(int(*s)) }

// send sends messages and takes the kernel's answer to each; the first error of them.
func (s *socket) send(b []byte) error {
	if err := unix.Sendto(int(*s), b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	want := 0
	for rest := b; len(rest) >= unix.SizeofNlMsghdr; want++ {
		rest = rest[binary.NativeEndian.Uint32(rest):]
	}
	buf := make([]byte, 8192)
	var first error
	for want > 0 {
		n, _, err := unix.Recvfrom(int(*s), buf, 0)
		if err != nil {
			return err
		}
		for p := buf[:n]; len(p) >= unix.SizeofNlMsghdr; want-- {
			size := (int(binary.NativeEndian.Uint32(p)) + 3) &^ 3
			errno := -int32(binary.NativeEndian.Uint32(p[unix.SizeofNlMsghdr:]))
			if errno != 0 && first == nil {
				first = unix.Errno(errno)
			}
			p = p[min(size, len(p)):]
		}
	}
	return first
}

// Index returns the index of an interface in the calling thread's network namespace.
func Index(name string) (int, error) {
	s, err := open()
	if err != nil {
		return 0, err
	}
	defer s.close()
	return s.index(name)
}

// index asks for an interface's index: the only question of the path.
func (s *socket) index(name string) (int, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(int(*s), unix.SIOCGIFINDEX, req); err != nil {
		return 0, fmt.Errorf("index of %s: %w", name, err)
	}
	return int(req.Uint32()), nil
}
