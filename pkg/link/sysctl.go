package link

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Settings of /proc/sys/net are those of the calling thread's namespace.

func sysctl(parts ...string) string {
	return "/proc/sys/net/" + strings.Join(parts, "/")
}

// readSysctl returns the setting; empty when the kernel does not have it.
func readSysctl(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	defer unix.Close(fd)
	var buf [64]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return strings.TrimSpace(string(buf[:n])), nil
}

// setSysctl writes a setting unless it has the value already: writing one of the
// forwarding switches waits for the kernel's interface lock even then. changed
// tells which. A setting that the kernel does not have (IPv6 off) is left alone.
func setSysctl(path, value string) (changed bool, err error) {
	have, err := readSysctl(path)
	if err != nil || have == value || have == "" {
		return false, err
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return false, fmt.Errorf("set %s to %s: %w", path, value, err)
	}
	return true, nil
}

// forward4 switches IPv4 forwarding of the host on.
func forward4() error {
	_, err := setSysctl(sysctl("ipv4", "ip_forward"), "1")
	return err
}

// forward6 switches IPv6 forwarding of the host on. From then on the kernel takes no
// router advertisements (RFC 4861, section 6.2.7) and at once drops the routes that
// it has from them, except where accept_ra is 2: that comes first, for every
// interface with such a default route.
func (c *conn) forward6() error {
	path := sysctl("ipv6", "conf", "all", "forwarding")
	if on, err := readSysctl(path); err != nil || on != "0" {
		return err
	}
	all, err := c.routes(unix.AF_INET6)
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.dst.Bits() != 0 || r.index == 0 || r.protocol != unix.RTPROT_RA && r.protocol != unix.RTPROT_KERNEL {
			continue
		}
		uplink, err := c.byIndex(r.index)
		if err != nil {
			return err
		}
		ra := sysctl("ipv6", "conf", uplink.name, "accept_ra")
		if have, err := readSysctl(ra); err != nil || have != "1" {
			continue
		}
		if _, err := setSysctl(ra, "2"); err != nil {
			return err
		}
	}
	_, err = setSysctl(path, "1")
	return err
}

// bridgedFiltering reports whether bridged frames go through the IP firewall of
// this namespace (br_netfilter; the settings are per namespace since kernel 5.3).
func bridgedFiltering(v6 bool) bool {
	name := "bridge-nf-call-iptables"
	if v6 {
		name = "bridge-nf-call-ip6tables"
	}
	on, err := readSysctl(sysctl("bridge", name))
	return err == nil && on == "1"
}
