package server

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
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

// hostServers returns the host's servers. Without any, the resolver is the host's own
// (resolv.conf(5)). systemd-resolved's stub is asked itself, since it knows which server
// is to be asked about which domain; behind it are the servers for when it does not run.
func hostServers(path, resolved string) (servers, behind []netip.Addr, err error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read the host's resolvers: %w", err)
	}
	if servers = nameservers(data); len(servers) == 0 {
		servers = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	stub := func(a netip.Addr) bool { return slices.Contains(resolvedStub, a) }
	if slices.ContainsFunc(servers, stub) {
		if data, err := os.ReadFile(resolved); err == nil {
			behind = slices.DeleteFunc(nameservers(data), func(a netip.Addr) bool { return stub(a) || slices.Contains(servers, a) })
		}
	}
	return servers, behind, nil
}
