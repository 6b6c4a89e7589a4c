package rtnl

import (
	"encoding/binary"
	"fmt"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel answers these questions (netdevice(7)) without its interface lock,
// which every route netlink request takes, and which a busy host holds for
// milliseconds at a time.

// Index returns the number of the interface in the socket's namespace.
func (c *Conn) Index(name string) (int, error) {
	r, err := unix.NewIfreq(name)
	if err == nil {
		err = unix.IoctlIfreq(c.FD(), unix.SIOCGIFINDEX, r)
	}
	if err != nil {
		return 0, fmt.Errorf("interface %s: %w", name, err)
	}
	return int(r.Uint32()), nil
}

// Glance returns the interface's number, flags (IFF_UP), MTU and MAC; not its kind.
func (c *Conn) Glance(name string) (*Link, error) {
	r, err := unix.NewIfreq(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	d := &Link{Name: name}
	ask := func(what uint, answer func()) {
		if err == nil {
			if err = unix.IoctlIfreq(c.FD(), what, r); err == nil {
				answer()
			}
		}
	}
	ask(unix.SIOCGIFINDEX, func() { d.Index = int(r.Uint32()) })
	ask(unix.SIOCGIFFLAGS, func() { d.Flags = uint32(r.Uint16()) })
	ask(unix.SIOCGIFMTU, func() { d.MTU = int(r.Uint32()) })
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	d.MAC, err = c.hardwareAddress(name)
	return d, err
}

const ifreqLen = 40 // struct ifreq, 64 bits

// hardwareAddress asks for the MAC, which is a struct sockaddr in the answer.
func (c *Conn) hardwareAddress(name string) (net.HardwareAddr, error) {
	var r [ifreqLen]byte
	copy(r[:unix.IFNAMSIZ-1], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c.FD()), unix.SIOCGIFHWADDR, uintptr(unsafe.Pointer(&r))); errno != 0 {
		return nil, fmt.Errorf("MAC of %s: %w", name, errno)
	}
	const family = 2 // bytes in front of the address
	return net.HardwareAddr(r[unix.IFNAMSIZ+family:][:6]), nil
}

// Name returns the name of the interface with a number.
func (c *Conn) Name(index int) (string, error) {
	var r [ifreqLen]byte
	binary.NativeEndian.PutUint32(r[unix.IFNAMSIZ:], uint32(index))
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c.FD()), unix.SIOCGIFNAME, uintptr(unsafe.Pointer(&r))); errno != 0 {
		return "", fmt.Errorf("interface %d: %w", index, errno)
	}
	return unix.ByteSliceToString(r[:unix.IFNAMSIZ]), nil
}
