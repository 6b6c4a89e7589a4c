package server

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	resolvConf = "/etc/resolv.conf"
	// resolvedConf is where systemd-resolved keeps the servers that its stub asks
	// (systemd-resolved.service(8)).
	resolvedConf = "/run/systemd/resolve/resolv.conf"
	// settle is how long a file may go on changing before it is read.
	settle = 100 * time.Millisecond
)

// resolvedStub are the addresses on which systemd-resolved itself listens.
var resolvedStub = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 53}), netip.AddrFrom4([4]byte{127, 0, 0, 54})}

// nameservers returns the servers of a resolv.conf(5), each once. What is no address
// is passed over, as resolvers do; an address may have a zone (fe80::1%eth0).
func nameservers(data []byte) []netip.Addr {
	var all []netip.Addr
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if addr, err := netip.ParseAddr(f[1]); err == nil && !slices.Contains(all, addr.Unmap()) {
			all = append(all, addr.Unmap())
		}
	}
	return all
}

// hostServers returns the host's servers. systemd-resolved's stub is replaced by the
// servers behind it: it would be one more on the way, and one who answers this host's
// own names.
func hostServers(path, resolved string) ([]netip.Addr, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the host's resolvers: %w", err)
	}
	servers := nameservers(data)
	stub := func(a netip.Addr) bool { return slices.Contains(resolvedStub, a) }
	if !slices.ContainsFunc(servers, stub) {
		return servers, nil
	}
	var behind []netip.Addr
	if data, err := os.ReadFile(resolved); err == nil {
		behind = slices.DeleteFunc(nameservers(data), stub)
	}
	if len(behind) == 0 {
		return servers, nil
	}
	all := append(behind, slices.DeleteFunc(servers, stub)...)
	return all, nil
}

// watch calls fn some time after one of the files has changed, until the context ends
// (inotify(7)). It watches their folders, and those that they link to, since such files
// are replaced rather than written.
func watch(ctx context.Context, files []string, fn func()) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	defer events.Close()
	stop := context.AfterFunc(ctx, func() { events.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 16<<10)
	for {
		for _, dir := range folders(files) { // each time: links change
			const what = unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_CREATE | unix.IN_DELETE
			_, _ = unix.InotifyAddWatch(fd, dir, what) // one that is not there has nothing to tell
		}
		if _, err := events.Read(buf); ctx.Err() != nil {
			return nil
		} else if err != nil {
			return fmt.Errorf("watch %s: %w", strings.Join(files, ", "), err)
		}
		select {
		case <-time.After(settle):
		case <-ctx.Done():
			return nil
		}
		fn()
	}
}

// folders are those of the files, and of what they link to.
func folders(files []string) []string {
	var all []string
	for _, f := range files {
		all = append(all, filepath.Dir(f))
		if target, err := filepath.EvalSymlinks(f); err == nil {
			all = append(all, filepath.Dir(target))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
