package probe

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ChecksumOffload reports whether the kernel leaves the checksums of what goes out
// through the device to it (ETHTOOL_GTXCSUM).
func ChecksumOffload(device string) (bool, error) {
	on, err := ethtool(device, unix.ETHTOOL_GTXCSUM, 0)
	if err != nil {
		return false, fmt.Errorf("read checksum offload of %s: %w", device, err)
	}
	return on != 0, nil
}

// SetChecksumOffload switches that (ETHTOOL_STXCSUM), as `ethtool -K DEVICE tx on|off`
// does. On a VXLAN device it is about the inner packets. Off takes segmentation
// offload with it, which comes back with on.
func SetChecksumOffload(device string, on bool) error {
	var data uint32
	if on {
		data = 1
	}
	if _, err := ethtool(device, unix.ETHTOOL_STXCSUM, data); err != nil {
		return fmt.Errorf("set checksum offload of %s to %t: %w", device, on, err)
	}
	return nil
}

// ethtool does one command with a number (struct ethtool_value).
func ethtool(device string, cmd, data uint32) (uint32, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(fd)
	value := struct{ cmd, data uint32 }{cmd, data}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // the rest of struct ifreq
	}{data: unsafe.Pointer(&value)}
	if len(device) >= unix.IFNAMSIZ {
		return 0, unix.ENODEV
	}
	copy(request.name[:], device)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return 0, errno
	}
	return value.data, nil
}
