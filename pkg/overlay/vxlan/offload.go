package vxlan

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolValue is struct ethtool_value.
type ethtoolValue struct{ cmd, data uint32 }

// ChecksumOffload reports whether the kernel leaves the checksums of what goes out
// through the device to it, in the calling thread's namespace.
func ChecksumOffload(device string) (bool, error) {
	c, err := dial()
	if err != nil {
		return false, err
	}
	defer c.close()
	return c.txChecksum(device, ethtoolValue{cmd: unix.ETHTOOL_GTXCSUM})
}

// SetChecksumOffload switches that, as `ethtool -K DEVICE tx on|off` does. On a VXLAN
// device it is about the inner packets. Off takes segmentation offload with it, which
// comes back with on.
func SetChecksumOffload(device string, on bool) error {
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.close()
	_, err = c.offload(device, on)
	return err
}

// txChecksum asks for, or with a command that sets (ETHTOOL_STXCSUM) changes, whether
// the device leaves checksums of what it sends to whoever is below it.
func (c *conn) txChecksum(device string, v ethtoolValue) (bool, error) {
	var req struct { // struct ifreq, 64 bits
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	if len(device) >= unix.IFNAMSIZ {
		return false, fmt.Errorf("checksum offload of %s: %w", device, unix.ENODEV)
	}
	copy(req.name[:], device)
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
