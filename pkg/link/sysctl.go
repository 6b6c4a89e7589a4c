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
