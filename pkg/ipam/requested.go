package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
)

// ParseRequested reads the addresses that a runtime asks for (the ips capability,
// args.cni.ips, IP in CNI_ARGS): "10.88.0.7", or "10.88.0.7/16", whose length does
// not count, since the subnet says it. The error names each bad one: "ips[1]".
func ParseRequested(ips []string) ([]netip.Addr, error) {
	var all []netip.Addr
	var errs []error
	for i, s := range ips {
		bare := s
		if p, err := netip.ParsePrefix(s); err == nil {
			bare = p.Addr().String()
		}
		addr, ok := parseAddr(bare)
		if !ok {
			errs = append(errs, fmt.Errorf("ips[%d]: %q: want an address such as 10.88.0.7 or 10.88.0.7/16", i, s))
			continue
		}
		all = append(all, addr)
	}
	return all, errors.Join(errs...)
}

// assign gives each requested address to a range set. What is returned has an
// element for each set; the zero Address where none was requested.
func (c *Config) assign(requested []netip.Addr) ([]attach.Address, error) {
	got := make([]attach.Address, len(c.Ranges))
	var refused []string
	var errs []error
	refuse := func(addr netip.Addr, err error) {
		refused, errs = append(refused, addr.String()), append(errs, err)
	}
	for i, addr := range requested {
		addr = addr.Unmap()
		if slices.Contains(requested[:i], requested[i]) {
			continue // the same request, given twice
		}
		set, r := c.rangeFor(addr, got)
		if r == nil {
			refuse(addr, c.unassigned(addr, got))
			continue
		}
		if what := c.reservedAs(addr, r); what != "" {
			refuse(addr, fmt.Errorf("requested address %s: is the %s of %s", addr, what, r.Subnet))
			continue
		}
		got[set] = r.address(addr)
	}
	if len(refused) > 0 { // in host-local's words, which runtimes and scripts look for; then why
		return nil, fmt.Errorf("failed to allocate all requested IPs: %s\n%w", strings.Join(refused, " "), errors.Join(errs...))
	}
	return got, nil
}

// rangeFor returns the range of a still unassigned set that the address belongs
// to: the one that could give it out, else the first in whose subnet it is, since
// sets may share a subnet.
func (c *Config) rangeFor(addr netip.Addr, got []attach.Address) (set int, found *Range) {
	for i := range c.Ranges {
		if got[i].Prefix.IsValid() {
			continue
		}
		for j := range c.Ranges[i] {
			r := &c.Ranges[i][j]
			if (span{r.Start, r.End, r}).contains(addr) {
				return i, r
			}
			if found == nil && r.Subnet.Contains(addr) {
				set, found = i, r
			}
		}
	}
	return set, found
}

// reservedAs says what the address is that makes it nobody's to lease.
func (c *Config) reservedAs(addr netip.Addr, r *Range) string {
	if slices.Contains(c.gateways(), addr) {
		return "gateway"
	}
	return r.reserved(addr)
}

// unassigned says why no set takes the address.
func (c *Config) unassigned(addr netip.Addr, got []attach.Address) error {
	for i, set := range c.Ranges {
		for _, r := range set {
			if r.Subnet.Contains(addr) {
				return fmt.Errorf("requested addresses %s and %s: both are of the ranges %s, which give an attachment one address",
					got[i].Prefix.Addr(), addr, set)
			}
		}
	}
	if len(c.Ranges) == 0 {
		return fmt.Errorf("requested address %s: the network has no subnet", addr)
	}
	var subnets []string
	for _, p := range c.Subnets() {
		subnets = append(subnets, p.String())
	}
	return fmt.Errorf("requested address %s: is in no subnet of the network, want one in %s", addr, strings.Join(subnets, " or "))
}
