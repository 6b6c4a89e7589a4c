package firewall

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Confined is the step that keeps an encrypted network from any other way than its own:
// what is sent to one of its subnets leaves by its bridge, by the device that encrypts, or
// not at all, whatever the routes say; and what has a sender of its subnets comes in by
// these, or is dropped. It belongs to the network: Add ensures it, Del leaves it, and
// [SyncConfined] removes it.
//
// Each network has a nftables table of its own for that, with either backend: it is made
// by the network's first container or the agent, whoever is sooner, so that a host that
// boots sends nothing in the clear before its agent has started. It lets pass what it does
// not drop, and names subnets, not containers.
type Confined struct {
	Device  string         `json:"device"`         // that encrypts
	Next    string         `json:"next,omitempty"` // another one that does, while keys are rotated
	Bridge  string         `json:"bridge"`
	Group   uint32         `json:"group,omitempty"` // of the containers' interfaces, where the network has no bridge
	Subnets []netip.Prefix `json:"subnets"`
}

// confinedPrefix is what the names of such tables begin with.
const confinedPrefix = "berth_confined_"

// OwnTable tells our tables by their names.
func OwnTable(name string) bool { return name == TableName || strings.HasPrefix(name, confinedPrefix) }

// Kind implements [attach.Step].
func (*Confined) Kind() string { return "confined" }

// Place implements [attach.Shared].
func (c *Confined) Place() string { return "confined " + c.Device }

// Join implements [attach.Shared].
func (c *Confined) Join(attach.Shared) attach.Shared { return c }

// Add implements [attach.Step].
func (c *Confined) Add(context.Context, *attach.Adding) error {
	s, err := c.table().Dial()
	if err == nil {
		err = nftnl.WithTable(s.Undamaged, func(bool) error { return s.Table.Make(true, nil) })
	}
	if err != nil {
		return fmt.Errorf("confine the encrypted network of %s to its device: %w", c.Device, err)
	}
	return nil
}

// Del implements [attach.Step]: the network stays confined.
func (*Confined) Del(context.Context, *attach.Attachment) error { return nil }

// Check implements [attach.Step].
func (c *Confined) Check(context.Context, *attach.Attachment) error {
	s, err := c.table().Dial()
	if err == nil {
		err = s.Undamaged()
	}
	if err != nil {
		return fmt.Errorf("the encrypted network of %s is not confined to its device: %w", c.Device, err)
	}
	return nil
}

// table is the network's. The chains' names tell what is in them, so that those of
// another subnet or version are replaced.
func (c *Confined) table() *nftnl.Table {
	h := fnv.New32a()
	fmt.Fprint(h, "2 ", c.Next, " ", c.Bridge, " ", c.Group, c.Subnets) // the first word is the version
	version := fmt.Sprintf("%08x", h.Sum32())
	sent, received := nftnl.Chain{
		Name: "sent_" + version, Kind: nftables.ChainTypeFilter,
		Hook: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityFilter,
	}, nftnl.Chain{
		Name: "received_" + version, Kind: nftables.ChainTypeFilter,
		Hook: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw,
	}
	for _, p := range c.Subnets {
		from, to := saddr4, daddr4
		if p.Addr().Is6() {
			from, to = saddr6, daddr6
		}
		sent.Rules = append(sent.Rules, c.rule(to, oif, oifGroup, p))           // ip daddr SUBNET oifname != DEVICE oifname != BRIDGE oifname != lo oifgroup != GROUP counter drop
		received.Rules = append(received.Rules, c.rule(from, iif, iifGroup, p)) // ip saddr SUBNET iifname != ... counter drop
	}
	return &nftnl.Table{Family: unix.NFPROTO_INET, Name: confinedPrefix + c.Device,
		Sets: func() []nftnl.Set { return nil }, Chains: func() []nftnl.Chain { return []nftnl.Chain{sent, received} },
		Version: sent.Name, Users: sent.Users()}
}

// rule drops what has an address of the subnet and passes by another interface.
func (c *Confined) rule(addr, by, group field, subnet netip.Prefix) []expr.Any {
	parts := [][]expr.Any{family(unix.NFPROTO_IPV4)}
	if subnet.Addr().Is6() {
		parts[0] = family(unix.NFPROTO_IPV6)
	}
	mask := make([]byte, addr.size)
	for bit := range subnet.Bits() {
		mask[bit/8] |= 0x80 >> (bit % 8)
	}
	parts = append(parts, masked(addr.load(register32), mask, expr.CmpOpEq, subnet.Masked().Addr().AsSlice()))
	for _, name := range []string{c.Device, c.Next, c.Bridge, "lo"} {
		if name != "" {
			parts = append(parts, compare(by.load(register32), expr.CmpOpNeq, nftnl.Name(name)))
		}
	}
	if c.Group != 0 {
		parts = append(parts, compare(group.load(register32), expr.CmpOpNeq, nftnl.Host(c.Group)))
	}
	return rule(append(parts, []expr.Any{&expr.Counter{}}, drop())...)
}

// SyncConfined confines these networks, and no others any more.
func SyncConfined(ctx context.Context, wanted []Confined) error {
	s, err := nftnl.Dial()
	if err != nil {
		return err
	}
	tables, err := nftnl.List(s, nftnl.Question(nftnl.GetTable, unix.NFPROTO_INET), func(m netlink.Message) (string, bool) {
		name := netlink.Text(m.Find(nftnl.HeaderLen, unix.NFTA_TABLE_NAME))
		return name, strings.HasPrefix(name, confinedPrefix)
	})
	if err != nil {
		return fmt.Errorf("list nftables tables: %w", err)
	}
	var errs []error
	for i := range wanted {
		errs = append(errs, wanted[i].Add(ctx, nil))
	}
	for _, name := range tables {
		device := strings.TrimPrefix(name, confinedPrefix)
		if slices.ContainsFunc(wanted, func(c Confined) bool { return c.Device == device }) {
			continue
		}
		req := nftnl.Request(nftnl.DelTable, 0, unix.NFPROTO_INET).Text(unix.NFTA_TABLE_NAME, name)
		if err := s.Transact(req); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("delete nftables table inet %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
