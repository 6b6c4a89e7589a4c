package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/names"
	"golang.org/x/sys/unix"
)

// hostFacts are what the checks look at of the networks of this host alone.
type hostFacts struct {
	Records    []*attach.Attachment // those that can be read
	RecordsErr error                // of those that cannot
	Fates      map[attach.Key]fate
	Whys       map[attach.Key]string // why a record is not alive
	Faults     []fault               // of those that are
	Networks   []attach.Network
	Lost       []lostLease

	Links      []hostLink
	Uplink     attach.Interface // of the default route; lo without one
	HostMounts []string         // paths that lead to the host's namespace
	NoVXLAN    bool             // the kernel has none

	FirewallErr error // no backend can be used
	Filters     *filters
	FiltersErr  error
	Shut        map[string]error // bridges that other firewalls do not let through
	BridgeNF    map[bool]bool    // whether bridged frames of IPv4 (true) and IPv6 pass the IP firewall

	Names     *names.Status // nil: the agent does not answer
	NamesErr  error
	Questions []question
}

// hostStore is where the records are.
func (p *program) hostStore() *attach.Store { return attach.New(p.settings.stateDir, cni.Decode) }

// gatherHost looks at the host once. It runs a few programs, never one for each
// container.
func (p *program) gatherHost(ctx context.Context) *hostFacts {
	h := &hostFacts{Fates: map[attach.Key]fate{}, Whys: map[attach.Key]string{}, Shut: map[string]error{}}
	store := p.hostStore()
	listing := listFilters(ctx)
	links, err := hostLinks()
	h.Links = links
	h.Records, h.RecordsErr = store.List(ctx, "")
	h.RecordsErr = errors.Join(h.RecordsErr, err)
	h.judge(ctx, store, p.now())
	err = store.View(ctx, func(tx *attach.Tx) (err error) {
		h.Networks, err = tx.Networks()
		return err
	})
	if err == nil && h.RecordsErr == nil {
		h.Lost, err = lostLeases(ctx, store, h.Records)
	}
	h.RecordsErr = errors.Join(h.RecordsErr, err)
	h.lookAround()
	h.lookAtNetworks(ctx, p.settings.stateDir)
	h.Faults = confirm(ctx, store, h.Faults, p.now())
	if h.Filters, h.FiltersErr = listing.filters(); h.FiltersErr == nil {
		h.addUnmarked()
	}
	return h
}

// judge tells which records are alive. One that is not is looked at again when nobody
// works on it: an ADD may not have come as far yet.
func (h *hostFacts) judge(ctx context.Context, store *attach.Store, now time.Time) {
	byName := linksByName(h.Links)
	for _, a := range h.Records {
		what, why := fateOf(a, byName, now)
		if what == dead {
			if again, err := settle(ctx, store, a.Key); err != nil {
				what = unknown
			} else {
				what, why = fateOf(again, byName, now)
			}
		}
		h.Fates[a.Key], h.Whys[a.Key] = what, why
	}
}

func linksByName(all []hostLink) map[string]hostLink {
	by := make(map[string]hostLink, len(all))
	for _, l := range all {
		by[l.name] = l
	}
	return by
}

// living are the records that should work.
func (h *hostFacts) living() []*attach.Attachment {
	var all []*attach.Attachment
	for _, a := range h.Records {
		if h.Fates[a.Key] == alive && !a.Going {
			all = append(all, a)
		}
	}
	return all
}

// lookAround looks at what is not of a network.
func (h *hostFacts) lookAround() {
	if up, _, _, err := link.Uplink(); err == nil {
		h.Uplink = up
	}
	h.BridgeNF = map[bool]bool{true: setting("bridge/bridge-nf-call-iptables") == "1", false: setting("bridge/bridge-nf-call-ip6tables") == "1"}
	_, h.FirewallErr = firewall.Choose("auto")
	h.HostMounts = mountsOfHost()
	_, err := os.Stat("/sys/module/vxlan")
	h.NoVXLAN = err != nil && !modulePresent("vxlan")
}

// lookAtNetworks looks at what containers need, in the order in which one thing needs
// the other.
func (h *hostFacts) lookAtNetworks(ctx context.Context, stateDir string) {
	living := h.living()
	sorted, newest := bridgesOf(living)
	for _, bridge := range sorted {
		if err := (&firewall.Forward{Bridge: bridge, Names: asks(living, bridge)}).Check(ctx, nil); err != nil {
			h.Shut[bridge] = err
		}
	}
	h.Names, h.NamesErr = names.Call(ctx, stateDir, names.Request{Do: names.DoStatus})
	h.Faults = faultsOf(ctx, living, newest, h.NamesErr == nil)
	if h.NamesErr == nil {
		h.Questions = askNames(living)
	}
}

// addUnmarked adds the faults of the iptables backend: containers that no rule is of.
func (h *hostFacts) addUnmarked() {
	for _, a := range h.living() {
		if r := rulesIn(a); r != nil && r.Backend == firewall.IPTables && len(a.Addresses) > 0 && !h.Filters.Marks[a.Hash()] {
			h.Faults = append(h.Faults, fault{a, r.Kind(), errors.New("iptables has no rule with its mark " + a.Hash())})
		}
	}
}

// families tells of which families living containers behind a gateway of this host are.
func (h *hostFacts) families() (v4, v6 bool) {
	for _, a := range h.living() {
		for _, s := range a.Steps {
			if b, ok := s.(*link.Bridge); !ok || !b.Gateway {
				continue
			}
			for _, addr := range a.Addresses {
				v4 = v4 || addr.Prefix.Addr().Is4()
				v6 = v6 || addr.Prefix.Addr().Is6()
			}
		}
	}
	return v4, v6
}

// ownDevices are the interfaces whose routes are our own.
func (h *hostFacts) ownDevices() []string {
	var own []string
	for _, n := range h.Networks {
		own = append(own, n.Link)
	}
	sorted, _ := bridgesOf(h.Records)
	return append(own, sorted...)
}

// netnsDirs are where runtimes keep the namespaces of their containers. Elsewhere
// (Docker, in a folder of its own) the host's may be mounted on purpose.
var netnsDirs = []string{"/run/netns/", "/var/run/netns/", "/run/user/"}

// mountsOfHost are the paths there on which the host's own namespace is mounted, each
// once: proc_pid_mountinfo(5) shows it as net:[inode] of an nsfs.
func mountsOfHost() []string {
	var own unix.Stat_t
	info, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil || unix.Stat("/proc/thread-self/ns/net", &own) != nil {
		return nil
	}
	root := fmt.Sprintf("net:[%d]", own.Ino)
	var all []string
	for line := range strings.Lines(string(info)) {
		f := strings.Fields(line)
		if len(f) > 4 && f[3] == root && slices.ContainsFunc(netnsDirs, func(dir string) bool { return strings.HasPrefix(f[4], dir) }) {
			all = append(all, f[4])
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// modulePresent tells whether the running kernel has a module, in it or beside it.
func modulePresent(name string) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return true // there is no telling
	}
	dir := "/lib/modules/" + unix.ByteSliceToString(u.Release[:])
	if _, err := os.Stat(dir); err != nil {
		return true
	}
	for _, list := range []string{"modules.dep", "modules.builtin"} {
		data, _ := os.ReadFile(dir + "/" + list)
		if strings.Contains(string(data), "/"+name+".ko") {
			return true
		}
	}
	return false
}

// lostLease is an address that nobody can have, since its holder has no record.
type lostLease struct {
	Address netip.Addr
	Holder  attach.Key
}

// lostLeases compares the leases with all records. The store counts them by blocks, so
// that a host where all is well costs a few reads.
func lostLeases(ctx context.Context, store *attach.Store, records []*attach.Attachment) ([]lostLease, error) {
	held := map[string][]netip.Addr{} // by network
	for _, a := range records {
		held[a.Network] = append(held[a.Network], a.Leases...)
	}
	var lost []lostLease
	err := store.View(ctx, func(tx *attach.Tx) error {
		networks, err := tx.Networks()
		for _, n := range networks {
			held[n.Name] = append([]netip.Addr{}, held[n.Name]...)
		}
		for network, addrs := range held {
			for _, whole := range []string{"0.0.0.0/0", "2000::/3", "fc00::/7"} { // what a network can have
				lost = append(lost, lostIn(tx, network, netip.MustParsePrefix(whole), addrs)...)
			}
		}
		return err
	})
	if len(lost) == 0 || err != nil {
		return nil, err
	}
	// A record and its leases are written together: what was not there at the first
	// look is in the second.
	records, err = store.List(ctx, "")
	lost = slices.DeleteFunc(lost, func(l lostLease) bool {
		return slices.ContainsFunc(records, func(a *attach.Attachment) bool { return a.Key == l.Holder })
	})
	return lost, err
}

// lostIn halves the prefix until it has as many leases as records say, or one that no
// record has.
func lostIn(tx *attach.Tx, network string, p netip.Prefix, addrs []netip.Addr) []lostLease {
	var here []netip.Addr
	for _, a := range addrs {
		if p.Contains(a) {
			here = append(here, a)
		}
	}
	if tx.Leased(network, p) <= len(here) {
		return nil
	}
	if p.IsSingleIP() {
		holder, _ := tx.Holder(network, p.Addr())
		return []lostLease{{p.Addr(), holder}}
	}
	low := netip.PrefixFrom(p.Addr(), p.Bits()+1)
	return append(lostIn(tx, network, low, here), lostIn(tx, network, upperHalf(low), here)...)
}

// upperHalf is the prefix of the same length that follows a lower half.
func upperHalf(low netip.Prefix) netip.Prefix {
	b := low.Addr().AsSlice()
	b[(low.Bits()-1)/8] |= 0x80 >> ((low.Bits() - 1) % 8)
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, low.Bits())
}
