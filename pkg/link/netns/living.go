package netns

import "net/netip"

// AddressesIn are the addresses of all namespaces that these paths lead to, but for the
// host's own and those of the loopback. What cannot be looked into is passed over.
func AddressesIn(paths []string) map[netip.Addr]bool {
	all, visited := map[netip.Addr]bool{}, map[uint64]bool{}
	for _, path := range paths {
		ns, err := Open(path)
		if err != nil {
			continue
		}
		cookie, err := ns.Cookie()
		own, bad := ns.IsOwn()
		if err == nil && bad == nil && !own && (cookie == 0 || !visited[cookie]) { // 0: the kernel gives none
			visited[cookie] = true
			ns.addAddresses(all)
		}
		ns.Close()
	}
	return all
}

func (ns *Namespace) addAddresses(all map[netip.Addr]bool) {
	c, err := ns.Dial()
	if err != nil {
		return
	}
	defer c.Close()
	links, err := c.Links()
	for _, l := range links {
		have, bad := c.Addresses(l.Index)
		if err != nil || bad != nil {
			continue
		}
		for _, p := range have {
			if !p.Prefix.Addr().IsLoopback() && !p.Prefix.Addr().IsLinkLocalUnicast() {
				all[p.Prefix.Addr()] = true
			}
		}
	}
}
