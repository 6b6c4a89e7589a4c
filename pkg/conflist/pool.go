package conflist

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// Pool is a prefix that networks without a subnet of their own get one from, of Size
// bits.
type Pool struct {
	Base netip.Prefix
	Size int
}

// DefaultPools are Docker's.
func DefaultPools() []Pool {
	pool := func(base string, size int) Pool { return Pool{netip.MustParsePrefix(base), size} }
	return []Pool{pool("172.17.0.0/16", 16), pool("172.18.0.0/15", 16), pool("172.20.0.0/14", 16),
		pool("172.24.0.0/13", 16), pool("192.168.0.0/16", 20)}
}

// ParsePool reads PREFIX, or PREFIX:SIZE for several networks from it, such as
// 192.168.0.0/16:20 or fd00::/48:64.
func ParsePool(s string) (Pool, error) {
	wrong := errors.New("want PREFIX or PREFIX:SIZE, such as 192.168.0.0/16:20 or fd00::/48:64")
	text := s
	size := ""
	if slash := strings.IndexByte(s, '/'); slash >= 0 {
		if colon := strings.IndexByte(s[slash:], ':'); colon >= 0 {
			text, size = s[:slash+colon], s[slash+colon+1:]
		}
	}
	base, err := netip.ParsePrefix(text)
	if err != nil || base.Addr().Is4In6() {
		return Pool{}, wrong
	}
	p := Pool{base.Masked(), base.Bits()}
	if size != "" || strings.HasSuffix(s, ":") {
		if p.Size, err = strconv.Atoi(size); err != nil {
			return Pool{}, wrong
		}
	}
	const room = 2 // bits, for the network's own address, a gateway and a container
	if most := base.Addr().BitLen() - room; p.Size < base.Bits() || p.Size > most {
		return Pool{}, fmt.Errorf("want a size of %d to %d", base.Bits(), most)
	}
	return p, nil
}

func (p Pool) String() string {
	if p.Size == p.Base.Bits() {
		return p.Base.String()
	}
	return fmt.Sprintf("%s:%d", p.Base, p.Size)
}

// Free returns the first subnet of the pools, of IPv4 or of IPv6, that overlaps
// nothing. False when there is none.
func Free(pools []Pool, v6 bool, taken []Taken) (netip.Prefix, bool) {
	for _, pool := range pools {
		if pool.Base.Addr().Is6() != v6 {
			continue
		}
		for addr := pool.Base.Addr(); addr.IsValid() && pool.Base.Contains(addr); {
			p := netip.PrefixFrom(addr, pool.Size)
			widest := p
			for _, t := range taken {
				if t.Prefix.Overlaps(p) && t.Prefix.Bits() <= widest.Bits() {
					widest = t.Prefix
				}
			}
			if widest == p && !anyOverlaps(taken, p) {
				return p, true
			}
			addr = last(widest).Next()
		}
	}
	return netip.Prefix{}, false
}

func anyOverlaps(taken []Taken, p netip.Prefix) bool {
	for _, t := range taken {
		if t.Prefix.Overlaps(p) {
			return true
		}
	}
	return false
}

// FreeULA returns a random /64 for a network of this host alone (RFC 4193, section
// 3.2.1) that overlaps nothing.
func FreeULA(random io.Reader, taken []Taken) (netip.Prefix, error) {
	const most = 64 // of 2^56: one that is taken is somebody's route to most of fd00::/8
	for range most {
		var a [16]byte
		a[0] = 0xfd // fc00::/7, locally assigned
		if _, err := io.ReadFull(random, a[1:8]); err != nil {
			return netip.Prefix{}, fmt.Errorf("derive an IPv6 subnet: %w", err)
		}
		if p := netip.PrefixFrom(netip.AddrFrom16(a), 64); !anyOverlaps(taken, p) {
			return p, nil
		}
	}
	return netip.Prefix{}, errors.New("derive an IPv6 subnet: others have all that were tried of fd00::/8: want one of your own, --subnet")
}

// Taken is a subnet that is somebody's.
type Taken struct {
	Prefix netip.Prefix
	By     string // as a message names it: "network blue", "this host, through eth0"
	Link   string // the host's interface that it is on; empty: not known
	Driver string // of the network; empty: it is none

	from, to netip.Addr // what of it is given out
}

// conflicts tells whether a new network's range is in the way. Networks on one link of
// the host's own (macvlan, ipvlan) may share a subnet as long as they give out other addresses.
func (t Taken) conflicts(driver, link string, r Range) bool {
	if !t.Prefix.Overlaps(r.Subnet) {
		return false
	}
	if link == "" || t.Link != link {
		return true
	}
	if t.Driver == "" {
		return false // the host's own routes on the parent, or of the bridge that was there before
	}
	if !OnParent(driver) || !OnParent(t.Driver) || !t.from.IsValid() {
		return true
	}
	from, to := r.span()
	return from.Compare(t.to) <= 0 && t.from.Compare(to) <= 0
}
