// Package conntrack has the kernel forget tracked connections that a published port's coming or
// going makes stale.
package conntrack

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"golang.org/x/sys/unix"
)

// The kernel translates the first packet of a flow and remembers. A UDP client
// that keeps sending from one port thus goes on to where the port led before:
// to the host, when the container comes, and to an address that nobody has, when
// it goes. TCP ends by itself.

// Attributes of ctnetlink (linux/netfilter/nfnetlink_conntrack.h) that
// golang.org/x/sys does not have.
const (
	ctGet    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1 // IPCTNL_MSG_CT_GET
	ctDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2 // IPCTNL_MSG_CT_DELETE

	ctaTupleOrig, ctaTupleReply, ctaStatus = 1, 2, 3
	ctaFilter, ctaStatusMask               = 25, 26
	ctaTupleIP, ctaTupleProto              = 1, 2
	ctaIPv4Src, ctaIPv4Dst                 = 1, 2
	ctaIPv6Src, ctaIPv6Dst                 = 3, 4
	ctaProtoNum, ctaProtoDstPort           = 1, 3
	ctaFilterOrig, ctaFilterReply          = 1, 2

	filterIPSrc, filterIPDst         = 1 << 0, 1 << 1
	filterProtoNum, filterProtoDPort = 1 << 3, 1 << 5
)

// StatusSNAT is IPS_SRC_NAT (linux/netfilter/nf_conntrack_common.h): the connection's source
// was translated.
const StatusSNAT = 1 << 4

// Flows are the tracked connections of a published port of one address family.
type Flows struct {
	Protocol string
	Number   uint8      // the protocol's, in the IP header
	Host     netip.Addr // unspecified for all of the family
	HostPort uint16
	To       netip.Addr // the container's
	// Gone: those that lead to the container. Otherwise those that came before it, of which
	// connections with a translated source are not: they left through the host to the same
	// port elsewhere.
	Gone bool
}

// Forget has the kernel forget flows: it goes through its table once for each,
// and nothing is listed (kernel 6.8; older ones have it listed to us).
func Forget(s *nftnl.Socket, all []Flows) error {
	var reqs []*netlink.Request
	var listed []Flows
	for _, f := range all {
		if f.filterable() {
			reqs = append(reqs, f.deletion())
		} else {
			listed = append(listed, f)
		}
	}
	if len(reqs) == 0 {
		return forgetListed(s, listed)
	}
	err := s.Do(reqs...)
	refused := netlink.Refusals(err)
	if err != nil && refused == nil {
		return fmt.Errorf("forget flows: %w", err)
	}
	for _, e := range refused {
		switch e.Errno {
		case unix.ENOENT, unix.EINVAL, unix.EOPNOTSUPP: // took it for the name of one flow
			return forgetListed(s, all)
		default:
			return fmt.Errorf("forget flows to %s port %d: %w", all[0].Protocol, all[0].HostPort, e)
		}
	}
	return forgetListed(s, listed)
}

// filterable tells whether the kernel's filter takes the right flows. It compares
// IPv6 addresses the wrong way round: those that differ match
// (ctnetlink_filter_match_tuple in net/netfilter/nf_conntrack_netlink.c, seen with 6.18).
func (f Flows) filterable() bool {
	return f.Host.Is4() || f.Host.IsUnspecified() && !f.Gone
}

func (f Flows) family() uint8 {
	if f.Host.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// addresses are the attributes with the source and the destination.
func (f Flows) addresses() (src, dst uint16) {
	if f.Host.Is6() {
		return ctaIPv6Src, ctaIPv6Dst
	}
	return ctaIPv4Src, ctaIPv4Dst
}

// deletion is the request that deletes what matches. The original direction is always
// part of it: a kernel that does not know the filter must never take the message for
// one that deletes everything.
func (f Flows) deletion() *netlink.Request {
	src, dst := f.addresses()
	const useFamily = 1 // the message's version
	r := netlink.NewRequest(ctDelete, 0, nftnl.Header(f.family(), useFamily, 0))
	orig, reply := uint32(filterProtoNum|filterProtoDPort), uint32(0)
	r.Nest(ctaTupleOrig, func() {
		if !f.Host.IsUnspecified() {
			orig |= filterIPDst
			r.Nest(ctaTupleIP, func() { r.Addr(dst, f.Host) })
		}
		r.Nest(ctaTupleProto, func() { r.Uint8(ctaProtoNum, f.Number).Bytes(ctaProtoDstPort, nftnl.Port(f.HostPort)) })
	})
	if f.Gone {
		reply = filterIPSrc
		r.Nest(ctaTupleReply, func() {
			r.Nest(ctaTupleIP, func() { r.Addr(src, f.To) })
		})
	} else {
		r.Bytes(ctaStatus, nftnl.Number(0)).Bytes(ctaStatusMask, nftnl.Number(StatusSNAT))
	}
	return r.Nest(ctaFilter, func() { r.Uint32(ctaFilterOrig, orig).Uint32(ctaFilterReply, reply) })
}

// forgetListed is Forget for what the kernel's deletion has no right filter for.
func forgetListed(s *nftnl.Socket, all []Flows) error {
	for _, f := range all {
		family := f.family()
		stale, err := nftnl.List(s, nftnl.Question(ctGet, family), func(m netlink.Message) (*netlink.Request, bool) {
			// What names a flow is what the kernel tells of it.
			return nftnl.Request(ctDelete, 0, family).Raw(m.Body[min(nftnl.HeaderLen, len(m.Body)):]), f.matches(m)
		})
		if err == nil {
			err = s.Do(stale...)
		}
		refused := netlink.Refusals(err)
		alive := func(e *netlink.Error) bool { return e.Errno != unix.ENOENT } // else it ended meanwhile
		if err != nil && refused == nil || slices.ContainsFunc(refused, alive) {
			return fmt.Errorf("forget flows to %s port %d: %w", f.Protocol, f.HostPort, err)
		}
	}
	return nil
}

// matches tells whether a flow of a list is one of these.
func (f Flows) matches(m netlink.Message) bool {
	src, dst := f.addresses()
	value := func(path ...uint16) []byte { return m.Find(nftnl.HeaderLen, path...) }
	addr := func(path ...uint16) netip.Addr { return netlink.Addr(value(path...)) }
	if netlink.Uint8(value(ctaTupleOrig, ctaTupleProto, ctaProtoNum)) != f.Number ||
		!bytes.Equal(value(ctaTupleOrig, ctaTupleProto, ctaProtoDstPort), nftnl.Port(f.HostPort)) {
		return false
	}
	if !f.Host.IsUnspecified() && addr(ctaTupleOrig, ctaTupleIP, dst) != f.Host {
		return false
	}
	if f.Gone {
		return addr(ctaTupleReply, ctaTupleIP, src) == f.To
	}
	return addr(ctaTupleReply, ctaTupleIP, dst) == addr(ctaTupleOrig, ctaTupleIP, src) // not translated
}
