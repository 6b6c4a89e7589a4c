package trace

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/firewall/ruleset"
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/link/netns"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// The form of iptables from before nftables tells of the rules that a packet meets if the
// packet has the mark of nft's trace, too (nf_trace of struct sk_buff, which its target TRACE
// sets), by the logger of the address family: a line "TRACE: filter:FORWARD:rule:2". For as
// long as one packet takes that logger is NFLOG's group 0 (linux/netfilter/nfnetlink_log.h),
// which we listen to.
const (
	logConfig     = unix.NFNL_SUBSYS_ULOG<<8 | 1 // NFULNL_MSG_CONFIG
	logPacket     = unix.NFNL_SUBSYS_ULOG << 8   // NFULNL_MSG_PACKET
	logCommand    = 1                            // NFULA_CFG_CMD
	logThreshold  = 5                            // NFULA_CFG_QTHRESH: after so many packets it sends
	logPayload    = 9                            // NFULA_PAYLOAD
	logPrefix     = 10                           // NFULA_PREFIX
	logBindGroup  = 1                            // NFULNL_CFG_CMD_BIND
	logBindFamily = 3                            // NFULNL_CFG_CMD_PF_BIND

	logOfThisTrace = "nfnetlink_log"
)

// xtRule is a rule of iptables from before nftables, or the policy of a chain.
type xtRule struct {
	table, chain string
	number       int // from 1
	policy       bool
}

// parseXtRule reads the line of a trace.
func parseXtRule(line string) (x xtRule, ok bool) {
	f := strings.Split(strings.TrimSpace(strings.TrimPrefix(line, "TRACE: ")), ":")
	if len(f) != 4 || !strings.HasPrefix(line, "TRACE: ") {
		return x, false
	}
	number, err := strconv.Atoi(f[3])
	return xtRule{f[0], f[1], number, f[2] == "policy"}, err == nil
}

// ruleLog hears of these rules in one namespace.
type ruleLog struct {
	ns      *netns.Namespace
	l       *netlink.Listener
	setting string // which logger the family has
	before  string // empty: it is not changed
}

// logRules makes our socket the logger of an address family in a namespace.
func logRules(ns *netns.Namespace, family uint8) (*ruleLog, error) {
	x := &ruleLog{ns: ns, setting: proc.Net("netfilter", "nf_log", strconv.Itoa(int(family)))}
	config := func(family uint8) *netlink.Request { return nftnl.Request(logConfig, 0, family) }
	err := within(ns, func() (err error) {
		if x.l, err = netlink.Listen(unix.NETLINK_NETFILTER, 1<<20, []bpf.Instruction{netlink.Pass}); err != nil {
			return err
		}
		// Who has the group may change the logger: one at a time.
		if err = x.l.Do(config(0).Uint8(logCommand, logBindGroup)); err != nil {
			return err
		}
		before, err := proc.Read(x.setting)
		if err == nil && (before == "" || !proc.Writable(x.setting)) {
			err = errors.New("the logger of packets cannot be changed")
		}
		if err == nil {
			x.before = before
			err = x.l.Do(config(0).Bytes(logThreshold, nftnl.Number(1)), config(family).Uint8(logCommand, logBindFamily))
		}
		return err
	})
	if err != nil {
		x.close()
		return nil, fmt.Errorf("listen to iptables: %w", err)
	}
	return x, nil
}

// close gives the family its logger back.
func (x *ruleLog) close() {
	if x.before != "" && x.before != logOfThisTrace {
		_ = within(x.ns, func() error { return proc.FS{}.Change(x.setting, x.before) })
	}
	if x.l != nil {
		x.l.Close()
	}
}

// last waits for the rules that a packet meets, and returns the last one: that which drops it.
func (x *ruleLog) last(ctx context.Context, is func(tuple) bool) (last xtRule, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, tcpTime)
	defer cancel()
	for {
		all, err := x.l.Receive(ctx)
		if errors.Is(err, unix.ENOBUFS) {
			continue
		}
		if err != nil {
			return last, ok
		}
		for m := range all {
			rule, known := parseXtRule(netlink.Text(m.Find(nftnl.HeaderLen, logPrefix)))
			if m.Kind != logPacket || !known || !is(packetTuple(m.Find(nftnl.HeaderLen, logPayload))) {
				continue
			}
			if !ok { // the others come at once
				defer time.AfterFunc(settling, cancel).Stop()
			}
			last, ok = rule, true
		}
	}
}

// packetTuple reads the headers of a whole packet.
func packetTuple(b []byte) tuple {
	n := 40 // of IPv6, without extensions
	if len(b) > 0 && b[0]>>4 == 4 {
		n = 4 * int(b[0]&0xf)
	}
	if len(b) < n {
		return tuple{}
	}
	return parseTuple(b[:n], b[n:])
}

// legacyRule sends another packet, and hears which rule of iptables from before nftables
// drops it in a namespace.
func (f *flow) legacyRule(ctx context.Context, ns *netns.Namespace) (rule xtRule, ok bool) {
	family, protocol := uint8(unix.NFPROTO_IPV4), uint8(unix.IPPROTO_TCP)
	if f.target.Addr().Is6() {
		family = unix.NFPROTO_IPV6
	}
	if f.protocol == "udp" {
		protocol = unix.IPPROTO_UDP
	}
	p, err := f.newProbe()
	if err != nil {
		return rule, false
	}
	defer p.close()
	f.port = p.port
	t, err := start("", ns, protocol, []mark{{dst: f.target.Addr(), dstPort: f.target.Port()}, {dst: f.final.Addr(), dstPort: f.final.Port()}})
	if err != nil {
		return rule, false
	}
	defer t.stop()
	x, err := logRules(ns, family)
	if err != nil {
		return rule, false
	}
	defer x.close()
	ctx, cancel := context.WithCancel(ctx)
	sent := make(chan struct{})
	go func() { defer close(sent); _ = p.send(ctx) }()
	rule, ok = x.last(ctx, f.isThere)
	cancel()
	<-sent
	return rule, ok
}

// endLegacy ends the flow for iptables from before nftables, which dropped it in a hook.
func (f *flow) endLegacy(r *Report, place, hook string) {
	chain := strings.ToUpper(hook)
	what, mend := "iptables (in its form from before nftables) drops it in "+chain, "iptables-legacy -S "+chain
	e := f.at(place)
	rule, ok := xtRule{}, false
	if f.again != nil {
		rule, ok = f.again(e.ns)
	}
	if !ok {
		r.end(place, Lost, what, mend)
		return
	}
	program := "iptables-legacy"
	if f.target.Addr().Is6() {
		program = "ip6tables-legacy"
	}
	where := fmt.Sprintf("table %s, chain %s of %s", rule.table, rule.chain, program)
	if rule.policy {
		what, mend = "the policy of "+where+" drops it", fmt.Sprintf("%s -t %s -P %s ACCEPT, or a rule before it that lets it through", program, rule.table, rule.chain)
	} else {
		what, mend = fmt.Sprintf("rule %d of %s drops it", rule.number, where), fmt.Sprintf("if nobody wants it: %s -t %s -D %s %d", program, rule.table, rule.chain, rule.number)
		var text string
		_ = within(e.ns, func() error {
			text = ruleset.LegacyText(f.target.Addr().Is6(), rule.table, rule.chain, rule.number)
			return nil
		})
		if text != "" {
			what += ": " + text
		}
	}
	switch {
	case e.ns != nil:
		mend = fmt.Sprintf("change the rule: it is in the namespace of %s, and its own", e.label)
	case strings.HasPrefix(rule.chain, "BERTH-"):
		mend = f.ownReason()
	case rule.table == "filter" && rule.chain == "FORWARD" && rule.policy:
		mend = fmt.Sprintf("berth reload has iptables let containers through (or: %s -I FORWARD -i %s -j ACCEPT, and the same with -o)", program, f.bridge())
	}
	r.end(place, Lost, what, mend)
}

// at is the endpoint of a place's label; of the host one without a namespace.
func (f *flow) at(place string) *endpoint {
	for _, e := range []*endpoint{f.dest, &f.from} {
		if e.ns != nil && e.label == place {
			return e
		}
	}
	return &endpoint{label: theHost}
}
