package connect

import (
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/names"
)

// unnamed says why the container does not find the names of the network that it was
// connected to; nil when it does, or when nobody can tell. Its resolv.conf is its runtime's
// own, and stays as it is: a resolver that is none of ours, as Docker's 127.0.0.11, knows
// other names.
func unnamed(a *attach.Attachment, records []*attach.Attachment) error {
	gateway := asksAt(a)
	if !gateway.IsValid() {
		return nil
	}
	asked, err := resolversIn(a.Netns)
	if err != nil || len(asked) == 0 {
		return nil
	}
	for _, r := range append(records, a) {
		if to := asksAt(r); r.Container == a.Container && to.IsValid() && asked[0] == to {
			return nil
		}
	}
	return fmt.Errorf("container %s asks %s for names, which knows none of network %s: it is found there by its own, and finds others by address, or once %s is the first nameserver in its resolv.conf",
		names.Called(a), asked[0], a.Network, gateway)
}

// asksAt is where the container of an attachment asks for names; invalid on a network
// without.
func asksAt(a *attach.Attachment) netip.Addr {
	if len(names.Registered(a)) == 0 {
		return netip.Addr{}
	}
	for _, addr := range a.Addresses {
		if gw := addr.Gateway; gw.IsValid() && !gw.IsLinkLocalUnicast() { // which a resolv.conf does not name
			return gw
		}
	}
	return netip.Addr{}
}

// resolversIn are the servers in the resolv.conf(5) of a process of a namespace that has
// files of its own: nil when there is none.
func resolversIn(path string) ([]netip.Addr, error) {
	ns, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	own, err := os.Stat("/proc/self/ns/mnt")
	if err != nil {
		return nil, err
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	for _, process := range all {
		same := func(of string, than fs.FileInfo) bool {
			info, err := os.Stat(process + "/ns/" + of)
			return err == nil && os.SameFile(info, than)
		}
		if !same("net", ns) || same("mnt", own) {
			continue
		}
		data, err := os.ReadFile(process + "/root/etc/resolv.conf")
		if err != nil {
			continue
		}
		return nameservers(string(data)), nil
	}
	return nil, err
}

func nameservers(text string) (all []netip.Addr) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if addr, err := netip.ParseAddr(f[1]); err == nil && !slices.Contains(all, addr) {
			all = append(all, addr)
		}
	}
	return all
}
