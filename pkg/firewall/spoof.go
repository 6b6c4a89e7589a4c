package firewall

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"golang.org/x/sys/unix"
)

// Spoof is the step that holds what a container sends to its own addresses: a frame that
// enters the bridge with another source MAC, or another IPv4 or IPv6 source address, is
// dropped, and so are ARP messages and neighbor advertisements that claim another address,
// router advertisements and redirects. Its addresses on other networks whose containers are
// held to theirs count as its own: what it is asked there it may answer here. It takes
// nftables' bridge family (kernel 3.14, CONFIG_NF_TABLES_BRIDGE), with either backend.
//
// What a container sends without an address yet passes: DHCP requests (RFC 2131), probes
// for its own address (RFC 5227; RFC 4862, section 5.4) and what joins multicast groups.
// Frames of other protocols have its MAC.
//
// On a network without a bridge ([Rules.Group]) no frame passes there: [Rules] holds the
// container to its addresses, and the table knows them as those of one that may be on others.
type Spoof struct {
	Group uint32 `json:"group,omitempty"` // as that of [Rules]
	// Echo keeps what the container sends to many (broadcast, multicast) from coming back to
	// it by a port that sends frames back where they came from (hairpin mode): it would take
	// its own IPv6 duplicate address detection for that of another.
	Echo bool `json:"echo,omitempty"`
	// Loose says that the container is not held to its addresses: there is only Echo.
	Loose bool `json:"loose,omitempty"`
}

// Kind implements [attach.Step].
func (*Spoof) Kind() string { return "spoof" }

// Restorable implements [attach.Restorable], as [Rules] does.
func (*Spoof) Restorable() {}

// Add implements [attach.Step].
func (s *Spoof) Add(ctx context.Context, a *attach.Adding) error {
	elements, err := s.elements(a.Attachment)
	if err == nil {
		err = s.put(ctx, a, elements)
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		if s.Group != 0 {
			return nil // nor do others hold it
		}
		err = fmt.Errorf("the kernel has no nftables of family bridge (CONFIG_NF_TABLES_BRIDGE): %w", err)
	}
	if err != nil && s.Loose {
		return fmt.Errorf("keep from %s what it sends to many: %w", a.Key, err)
	}
	if err != nil {
		return fmt.Errorf("hold %s to its own addresses: %w", a.Key, err)
	}
	return nil
}

func (s *Spoof) put(ctx context.Context, a *attach.Adding, elements []nftnl.Element) error {
	c, err := bridgeTable.Dial()
	if err != nil {
		return err
	}
	return c.Put(elements, func(replace bool) error { return c.Restore(spoofElements(ctx, a.All), replace) })
}

// Del implements [attach.Step].
func (s *Spoof) Del(_ context.Context, a *attach.Attachment) error {
	elements, err := s.elements(a)
	if err != nil {
		return nil // Add refused it
	}
	c, err := bridgeTable.Dial()
	if err == nil {
		err = c.Remove(elements)
	}
	if err != nil {
		return fmt.Errorf("forget the addresses that %s is held to: %w", a.Key, err)
	}
	return nil
}

// Check implements [attach.Step].
func (s *Spoof) Check(_ context.Context, a *attach.Attachment) error {
	elements, err := s.elements(a)
	if err != nil {
		return err
	}
	c, err := bridgeTable.Dial()
	if err != nil {
		return err
	}
	for range 5 {
		if err = c.Verify(elements, nil); err == nil {
			break
		}
		time.Sleep(5 * time.Millisecond) // somebody's transaction may be under way
	}
	return err
}

// Status implements [attach.Statuser].
func (s *Spoof) Status(context.Context, *attach.Store, string) error { return SpoofStatus() }

// SpoofStatus returns why [Spoof] cannot be used on this host; nil when it can.
func SpoofStatus() error {
	if err := bridgeTable.Supported(); err != nil {
		return fmt.Errorf("the kernel has no nftables of family bridge (CONFIG_NF_TABLES_BRIDGE): %w", err)
	}
	return nil
}

// elements are what the table holds for a container.
func (s *Spoof) elements(a *attach.Attachment) ([]nftnl.Element, error) {
	mac, err := net.ParseMAC(a.MAC)
	if err != nil {
		return nil, fmt.Errorf("MAC %q: %w", a.MAC, err)
	}
	port, hash := nftnl.Name(a.HostIfName()), a.Hash()
	also := alsoElements(a)
	if s.Group != 0 {
		return also, nil
	}
	if s.Echo {
		also = append(also, nftnl.Element{Set: spoofEcho, Key: nftnl.Join(port, port), Comment: hash})
	}
	if s.Loose {
		return also[len(also)-1:], nil
	}
	all := append([]nftnl.Element{
		{Set: spoofPorts, Key: port, Comment: hash},
		{Set: spoofMACs, Key: nftnl.Join(port, mac), Comment: hash},
		{Set: spoofContainers, Key: port, Value: containerNumber(a.Container), Comment: hash},
	}, also...)
	own := func(set string, ip netip.Addr) {
		all = append(all, nftnl.Element{Set: set, Key: nftnl.Join(port, mac, ip.AsSlice()), Comment: hash})
	}
	for _, addr := range append(a.Addresses[:len(a.Addresses):len(a.Addresses)], linkLocal(mac)) {
		ip := addr.Prefix.Addr()
		if ip.Is4() {
			own(spoofOwn4, ip)
			continue
		}
		own(spoofOwn6, ip)
		own(spoofClaims6, ip)
	}
	return all, nil
}

// alsoElements are the addresses of a container that is held to its own, for its interfaces
// on other networks.
func alsoElements(a *attach.Attachment) (all []nftnl.Element) {
	container := containerNumber(a.Container)
	for _, addr := range a.Addresses {
		set, ip := spoofAlso4, addr.Prefix.Addr()
		if ip.Is6() {
			set = spoofAlso6
		}
		all = append(all, nftnl.Element{Set: set, Key: nftnl.Join(container, ip.AsSlice()), Comment: a.Hash()})
	}
	return all
}

// containerNumber tells containers apart, in a mark.
func containerNumber(id string) []byte {
	h := fnv.New32a()
	h.Write([]byte(id))
	return nftnl.Host(h.Sum32())
}

// linkLocal is the address that an interface gives itself by its MAC (RFC 4291, appendix
// A; net.ipv6.conf.*.addr_gen_mode 0).
func linkLocal(mac net.HardwareAddr) attach.Address {
	ip := netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80,
		8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
	return attach.Address{Prefix: netip.PrefixFrom(ip, 64)}
}

// spoofElements are those of all records, at the time of each call.
func spoofElements(ctx context.Context, all records) func() ([]nftnl.Element, error) {
	return func() (elements []nftnl.Element, err error) {
		if all == nil {
			return nil, nil
		}
		list, err := all(ctx)
		for _, a := range list {
			if s := spoofOf(a); s != nil && !a.Deleting {
				own, bad := s.elements(a)
				if bad == nil { // else Add refused it
					elements = append(elements, own...)
				}
			}
		}
		return elements, err
	}
}

// spoofOf returns the step of a record; nil when it has none.
func spoofOf(a *attach.Attachment) *Spoof {
	for _, s := range a.Steps {
		if spoof, ok := s.(*Spoof); ok {
			return spoof
		}
	}
	return nil
}

// rebuildSpoof makes the table anew, where there is one or a record asks for it.
func rebuildSpoof(ctx context.Context, all records) error {
	list, err := all(ctx)
	if err != nil {
		return err
	}
	c, err := bridgeTable.Dial()
	if err != nil {
		return err
	}
	wanted, err := c.Exists()
	if err != nil {
		return err
	}
	for _, a := range list {
		wanted = wanted || spoofOf(a) != nil && !a.Deleting
	}
	if !wanted {
		return nil
	}
	return c.Restore(spoofElements(ctx, all), true)
}

// RestoreSpoof makes the table of [Spoof] again where one of these attachments asks for it
// and somebody deleted it, or a part of it; done tells whether it had to. The records are
// listed by all, as for [Rebuild].
func RestoreSpoof(ctx context.Context, these []*attach.Attachment, all func(context.Context) ([]*attach.Attachment, error)) (done bool, err error) {
	if !slices.ContainsFunc(these, func(a *attach.Attachment) bool { return spoofOf(a) != nil && !a.Deleting }) {
		return false, nil
	}
	c, err := bridgeTable.Dial()
	if err != nil {
		return false, err
	}
	err = nftnl.WithTable(c.Undamaged, func(replace bool) error {
		done = true
		return c.Restore(spoofElements(ctx, all), replace)
	})
	return done, err
}

// spoof reads what the table has of each attachment.
func (l *heldList) spoof() error {
	c, err := bridgeTable.Dial()
	if err != nil {
		return err
	}
	for _, set := range spoofSets() {
		all, err := c.List(set.Name)
		if nftnl.Absent(err) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range all {
			if attach.IsHash(e.Comment) {
				h := l.of(e.Comment, NFTables)
				h.senders = append(h.senders, e)
				if set.Name == spoofEcho {
					h.Echo = true
				} else {
					h.Spoof = true
				}
			}
		}
	}
	return nil
}

func (h *Held) removeSenders() error {
	if len(h.senders) == 0 {
		return nil
	}
	c, err := bridgeTable.Dial()
	if err != nil {
		return err
	}
	return c.Remove(h.senders)
}
