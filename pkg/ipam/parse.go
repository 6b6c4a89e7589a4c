package ipam

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/berth-cni/berth/pkg/internal/schema"
)

// The configuration as it is written. Of keys that are not here, package schema knows what
// is to be said.
type (
	configSpec struct {
		Type   string        `json:"type"`
		Ranges [][]rangeSpec `json:"ranges"`
		Routes []routeSpec   `json:"routes"`
		Sticky string        `json:"sticky"`
	}
	rangeSpec struct {
		Subnet     string   `json:"subnet"`
		Gateway    string   `json:"gateway"`
		RangeStart string   `json:"rangeStart"`
		RangeEnd   string   `json:"rangeEnd"`
		Exclude    []string `json:"exclude"`
	}
	routeSpec struct {
		Dst      string `json:"dst"`
		GW       string `json:"gw"`
		MTU      int    `json:"mtu"`
		AdvMSS   int    `json:"advmss"`
		Priority int    `json:"priority"`
		Table    *int   `json:"table"`
		Scope    *int   `json:"scope"`
	}
)

// Parse reads the ipam object of a configuration. The error joins all problems,
// each with the path of its key, its value, and what is allowed. Of another type
// than the built-in one nothing but the type is read: the rest is the delegate's.
//
// As in host-local, the keys of a range beside type are the first range set. An
// exclude there counts for the ranges of ranges too.
func Parse(raw json.RawMessage) (*Config, error) { return ParseWith(raw, nil) }

// RuntimeRanges is the key of the ranges that a runtime gives (CONVENTIONS.md).
const RuntimeRanges = "runtimeConfig.ipRanges"

// ParseWith is [Parse] with the ranges that a runtime gives, in the form of ipam.ranges,
// if any. As in host-local they come before those of the configuration, which may have
// none: an attachment gets one address from each list. Without an ipam object they are
// nobody's.
func ParseWith(raw, runtime json.RawMessage) (*Config, error) {
	if len(raw) == 0 {
		return &Config{}, nil
	}
	var kind struct {
		Type string `json:"type"`
	}
	if err := decode(raw, &kind); err != nil {
		return nil, err
	}
	if kind.Type != "" && kind.Type != BuiltInType {
		return &Config{Type: kind.Type}, checkName(kind.Type)
	}
	var spec configSpec
	var first rangeSpec
	var given [][]rangeSpec
	if err := errors.Join(decode(raw, &spec), decodeRanges(RuntimeRanges, runtime, &given)); err != nil {
		return nil, err
	}
	if err := decode(raw, &first); err != nil {
		return nil, err
	}
	p := parser{c: &Config{Type: spec.Type}}
	p.sets(RuntimeRanges, given)
	p.config(&spec, &first)
	if len(p.errs) > 0 {
		return nil, errors.Join(p.errs...)
	}
	return p.c, nil
}

// decode decodes the ipam object.
func decode(raw json.RawMessage, v any) error { return schema.IPAM.Decode("ipam", raw, v) }

// decodeRanges decodes a list of range sets, which may be absent.
func decodeRanges(of string, raw json.RawMessage, v *[][]rangeSpec) error {
	if len(raw) == 0 {
		return nil
	}
	return schema.Ranges.Decode(of, raw, v)
}

// ErrNoRanges: the configuration says neither a range nor layer 2.
var ErrNoRanges = errors.New("ipam: has no addresses: want a subnet or ranges, or {} for layer 2 only")

// parser collects the configuration and all that is wrong with it.
type parser struct {
	c    *Config
	keys [][]string // the path of each range's keys: "ipam.ranges[0][1]"
	errs []error
}

func (p *parser) refuse(key, value, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s: %q: %s", key, value, fmt.Sprintf(format, args...)))
}

func (p *parser) config(spec *configSpec, first *rangeSpec) {
	if err := ValidSticky(spec.Sticky); err != nil {
		p.refuse("ipam.sticky", spec.Sticky, "%v", err)
	}
	p.c.Sticky = spec.Sticky
	topExclude := first.Exclude
	if first.Subnet != "" {
		first.Exclude = nil
		p.set([]string{"ipam"}, []rangeSpec{*first})
	} else if first.Gateway != "" || first.RangeStart != "" || first.RangeEnd != "" {
		p.refuse("ipam.subnet", "", "want the CIDR that gateway, rangeStart and rangeEnd are of")
	}
	p.sets("ipam.ranges", spec.Ranges)
	p.excludeAll(topExclude)
	for i := range spec.Routes {
		p.route(fmt.Sprintf("ipam.routes[%d]", i), &spec.Routes[i])
	}
	given := spec.Type != "" || spec.Ranges != nil || spec.Routes != nil || topExclude != nil
	if given && len(p.c.Ranges) == 0 && len(p.errs) == 0 {
		p.errs = append(p.errs, ErrNoRanges)
	}
	if len(p.errs) == 0 {
		p.together()
	}
}

// sets reads a list of sets.
func (p *parser) sets(key string, sets [][]rangeSpec) {
	for i, set := range sets {
		keys := make([]string, len(set))
		for j := range set {
			keys[j] = fmt.Sprintf("%s[%d][%d]", key, i, j)
		}
		if len(set) == 0 {
			p.errs = append(p.errs, fmt.Errorf("%s[%d]: is empty: want at least one range with a subnet", key, i))
			continue
		}
		p.set(keys, set)
	}
}

// set reads the ranges of one set. Those with a mistake stay in the list as zero
// values, so that indices keep their meaning.
func (p *parser) set(keys []string, specs []rangeSpec) {
	set := make(RangeSet, len(specs))
	for j := range specs {
		set[j] = p.parseRange(keys[j], &specs[j])
		if a, b := set[0].Subnet.Addr(), set[j].Subnet.Addr(); a.IsValid() && b.IsValid() && a.Is4() != b.Is4() {
			p.refuse(keys[j]+".subnet", specs[j].Subnet, "want the address family of %s: the ranges of one list give one address", set[0].Subnet)
		}
	}
	p.c.Ranges = append(p.c.Ranges, set)
	p.keys = append(p.keys, keys)
}

// excludeAll adds the exclude beside type to each range that it touches.
func (p *parser) excludeAll(exclude []string) {
	for n, s := range exclude {
		key := fmt.Sprintf("ipam.exclude[%d]", n)
		prefix, ok := p.excluded(key, s)
		if !ok {
			continue
		}
		touches, known := false, true
		for _, set := range p.c.Ranges {
			for j := range set {
				known = known && set[j].Subnet.IsValid()
				if set[j].Subnet.Overlaps(prefix) {
					touches = true
					set[j].Exclude = append(set[j].Exclude, prefix)
				}
			}
		}
		if !touches && known {
			p.refuse(key, s, "is in no subnet of the network")
		}
	}
}

// together checks what concerns more than one key, once each is right by itself.
func (p *parser) together() {
	type placed struct {
		key string
		r   *Range
	}
	var all []placed
	gateways := p.c.gateways()
	for i, set := range p.c.Ranges {
		for j := range set {
			r, key := &set[j], p.keys[i][j]+".subnet"
			if len(r.spans(gateways)) == 0 {
				p.refuse(key, r.Subnet.String(), "has no address to give out in %s: all are excluded, the gateway, or reserved", r)
			}
			for _, o := range all {
				if r.Start.Compare(o.r.End) <= 0 && o.r.Start.Compare(r.End) <= 0 {
					p.refuse(key, r.Subnet.String(), "its range %s overlaps %s of %s", r, o.r, o.key)
				}
			}
			all = append(all, placed{key, r})
		}
	}
}

// parseAddr reads an address without a zone, an IPv4 one in either notation.
func parseAddr(s string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, false
	}
	return addr.Unmap(), true
}
