package trace

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// tablePrefix is what the names of tables begin with that are there while a flow is followed.
const tablePrefix = "berth-trace-"

// mark says which packets are followed: those to or from an address and port, of one
// protocol. Fields that are not valid or 0 do not count.
type mark struct {
	src, dst         netip.Addr
	srcPort, dstPort uint16
}

// hooks are those of the tables, and the names of the chains in them: the first one, which
// marks where packets come in or begin, and the last.
var hooks = []struct {
	name   string
	hook   *nftables.ChainHook
	begins bool
}{
	{"prerouting", nftables.ChainHookPrerouting, true},
	{"input", nftables.ChainHookInput, false},
	{"forward", nftables.ChainHookForward, false},
	{"output", nftables.ChainHookOutput, true},
	{"postrouting", nftables.ChainHookPostrouting, false},
}

// tracer hears what becomes of marked packets in one network namespace.
type tracer struct {
	place string
	owner *nftnl.Owner // of the tables
	l     *netlink.Listener

	mu     sync.Mutex
	events []event
}

// start marks packets of a protocol in a namespace, and listens.
func start(place string, ns *netns.Namespace, protocol uint8, marks []mark) (*tracer, error) {
	t := &tracer{place: place}
	err := within(ns, func() (err error) {
		if t.l, err = netlink.Listen(unix.NETLINK_NETFILTER, 1<<20, []bpf.Instruction{netlink.Pass}, groupTrace); err != nil {
			return fmt.Errorf("listen to nftables: %w", err)
		}
		if t.owner, err = nftnl.Own(tablePrefix); err != nil {
			return err
		}
		for _, family := range []uint8{unix.NFPROTO_INET, unix.NFPROTO_BRIDGE} {
			err := t.owner.Make(marking(t.owner.Name, family, protocol, marks))
			if err != nil && !(family == unix.NFPROTO_BRIDGE && nftnl.Absent(err)) { // then no bridge has rules
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.stop()
		return nil, err
	}
	go t.hear()
	return t, nil
}

// within does something in a namespace; nil: where the thread is.
func within(ns *netns.Namespace, do func() error) error {
	if ns == nil {
		return do()
	}
	return ns.Do(do)
}

// stop removes the tables.
func (t *tracer) stop() {
	if t.owner != nil {
		_ = t.owner.Close()
	}
	if t.l != nil {
		t.l.Close()
	}
}

// hear takes up what is told, until stop.
func (t *tracer) hear() {
	for {
		all, err := t.l.Receive(context.Background())
		if errors.Is(err, os.ErrClosed) || err != nil && !errors.Is(err, unix.ENOBUFS) {
			return
		}
		if err != nil {
			continue
		}
		for m := range all {
			e, ok := parseEvent(m)
			e.ours = e.table == t.owner.Name
			if ok && (e.ours || !strings.HasPrefix(e.table, tablePrefix)) { // another trace's tables are nobody's rules
				t.mu.Lock()
				if len(t.events) < 1<<14 {
					t.events = append(t.events, e)
				}
				t.mu.Unlock()
			}
		}
	}
}

// heard are the events until now.
func (t *tracer) heard() []event {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.events[:len(t.events):len(t.events)]
}

// marking is the table of a family.
func marking(name string, family, protocol uint8, marks []mark) *nftnl.Table {
	return &nftnl.Table{Family: family, Name: name, Sets: func() []nftnl.Set { return nil },
		Chains: func() (all []nftnl.Chain) {
			for _, h := range hooks {
				first := nftnl.Chain{Name: h.name, Kind: nftables.ChainTypeFilter, Hook: h.hook, Priority: nftables.ChainPriorityRef(math.MinInt32 + 1)}
				if h.begins {
					for _, m := range marks {
						first.Rules = append(first.Rules, m.rule(family, protocol))
					}
				}
				last := first
				last.Name, last.Rules, last.Priority = h.name+"-last", nil, nftables.ChainPriorityRef(math.MaxInt32)
				all = append(all, first, last)
			}
			return all
		}}
}

// rule sets "meta nftrace" on the packets of a mark.
func (m mark) rule(family, protocol uint8) []expr.Any {
	addr := m.src
	if !addr.IsValid() {
		addr = m.dst
	}
	number, etherType := byte(unix.NFPROTO_IPV4), uint16(unix.ETH_P_IP)
	srcAt, dstAt := uint32(12), uint32(16) // struct iphdr
	if addr.Is6() {
		number, etherType, srcAt, dstAt = unix.NFPROTO_IPV6, unix.ETH_P_IPV6, 8, 24 // struct ipv6hdr
	}
	equal := func(data []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }
	load := func(base expr.PayloadBase, offset, length uint32) expr.Any {
		return &expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: length}
	}
	all := []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{number})}
	if family == unix.NFPROTO_BRIDGE {
		all = []expr.Any{&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1}, equal(nftnl.Port(etherType))}
	}
	all = append(all, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{protocol}))
	for _, a := range []struct {
		addr netip.Addr
		at   uint32
	}{{m.src, srcAt}, {m.dst, dstAt}} {
		if a.addr.IsValid() {
			b := a.addr.AsSlice()
			all = append(all, load(expr.PayloadBaseNetworkHeader, a.at, uint32(len(b))), equal(b))
		}
	}
	for at, port := range []uint16{m.srcPort, m.dstPort} {
		if port != 0 {
			all = append(all, load(expr.PayloadBaseTransportHeader, uint32(2*at), 2), equal(nftnl.Port(port)))
		}
	}
	return append(all, &expr.Immediate{Register: 1, Data: []byte{1}},
		&expr.Meta{Key: expr.MetaKeyNFTRACE, Register: 1, SourceRegister: true})
}
