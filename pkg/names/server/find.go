package server

import (
	"cmp"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/names"
)

// foundMost is how many are told of at most: the reply is one packet.
const foundMost = 100

// Find returns who has the first name of an entry, NAME or NAME.NETWORK with or without
// [names.HostDomain] behind, or the first address, in the order of networks and containers.
func (d *Directory) Find(e names.Entry) []names.Entry {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var found []names.Entry
	for network, n := range d.networks {
		for _, m := range n.find(network, e) {
			found = append(found, names.Entry{Key: m.Key, Names: m.Names[:min(len(m.Names), 10)], Addresses: m.Addresses})
		}
	}
	slices.SortFunc(found, func(a, b names.Entry) int {
		return cmp.Or(strings.Compare(a.Network, b.Network), strings.Compare(a.Container, b.Container), strings.Compare(a.IfName, b.IfName))
	})
	return found[:min(len(found), foundMost)]
}

func (n *network) find(network string, e names.Entry) []*member {
	if len(e.Addresses) > 0 {
		if m := n.addrs[e.Addresses[0]]; m != nil {
			return []*member{m}
		}
	}
	if len(e.Names) == 0 {
		return nil
	}
	word := strings.ToLower(strings.TrimSuffix(e.Names[0], "."))
	for _, w := range []string{word, strings.TrimSuffix(word, "."+names.HostDomain)} {
		if found := n.names[wireKey(w)]; found != nil {
			return found
		}
		if name, ok := strings.CutSuffix(w, "."+strings.ToLower(network)); ok && n.names[wireKey(name)] != nil {
			return n.names[wireKey(name)]
		}
	}
	return nil
}
