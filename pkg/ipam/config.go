// Package ipam decides which addresses an attachment gets.
//
// The built-in policy is [Config.Allocate]: one address from each range set,
// next-fit, in the transaction that also writes the attachment's record. It keeps
// no state of its own; who holds what is in package attach. Any other IPAM plugin
// is run by a [Delegate], which is a step of the attachment.
package ipam

import (
	"net/netip"

	"github.com/berth-cni/berth/pkg/attach"
)

// BuiltInType is the ipam.type of the policy of this package. The absence of a
// type stands for it too.
const BuiltInType = "berth-ipam"

// Config is the ipam object of a network's configuration. The spelling is that
// of host-local v1.10.0, plus exclude.
type Config struct {
	Type   string
	Ranges []RangeSet // an attachment gets one address from each set
	Routes []attach.Route
	// Sticky says by which name an address that was given back is kept: [StickyName],
	// [StickyPod], or empty for none. The name's container gets it again unless it is leased
	// meanwhile, which it is only when the range set has no other left; then the one that has
	// been kept longest goes first.
	Sticky string
	// Grows says that more ranges come by themselves when these are full.
	Grows bool
}

// BuiltIn tells that the addresses come from this package.
func (c *Config) BuiltIn() bool {
	return (c.Type == "" || c.Type == BuiltInType) && len(c.Ranges) > 0
}

// Delegated tells that another plugin gives the addresses.
func (c *Config) Delegated() bool { return c.Type != "" && c.Type != BuiltInType }

// Empty tells that the network has no addresses: it is layer 2 only.
func (c *Config) Empty() bool { return c.Type == "" && len(c.Ranges) == 0 }

// Subnets returns the subnets of all ranges, each once, in the configuration's
// order.
func (c *Config) Subnets() []netip.Prefix {
	var all []netip.Prefix
	seen := map[netip.Prefix]bool{}
	for _, set := range c.Ranges {
		for _, r := range set {
			if !seen[r.Subnet] {
				seen[r.Subnet] = true
				all = append(all, r.Subnet)
			}
		}
	}
	return all
}

// gateways returns the gateways of all ranges.
func (c *Config) gateways() []netip.Addr {
	var all []netip.Addr
	for _, set := range c.Ranges {
		for _, r := range set {
			all = append(all, r.Gateway)
		}
	}
	return all
}

// Spans are the first and last addresses of the ranges.
func (c *Config) Spans() [][2]netip.Addr {
	var all [][2]netip.Addr
	for _, set := range c.Ranges {
		for _, r := range set {
			all = append(all, [2]netip.Addr{r.Start, r.End})
		}
	}
	return all
}
