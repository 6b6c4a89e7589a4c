package vxlan

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolValue is struct ethtool_value.
type ethtoolValue struct{ cmd, data uint32 }

// txChecksum asks for, or with a command that sets (ETHTOOL_STXCSUM) changes, whether
// the device leaves checksums of what it sends to whoever is below it.
func (c *conn) txChecksum(device string, v ethtoolValue) (bool, error) {
	var req struct { // struct ifreq, 64 bits
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(req.name[:unix.IFNAMSIZ-1], device)
	req.data = unsafe.Pointer(&v)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c.fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	if errno != 0 {
		return false, fmt.Errorf("checksum offload of %s: %w", device, errno)
	}
	return v.data != 0, nil
}

// offload switches checksum offload, and tells whether that changed anything.
func (c *conn) offload(device string, on bool) (bool, error) {
	have, err := c.txChecksum(device, ethtoolValue{cmd: unix.ETHTOOL_GTXCSUM})
	if err != nil || have == on {
		return false, err
	}
	set := ethtoolValue{cmd: unix.ETHTOOL_STXCSUM}
	if on {
		set.data = 1
	}
	_, err = c.txChecksum(device, set)
	return err == nil, err
}
