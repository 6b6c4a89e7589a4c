package trace

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/firewall/ruleset"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/names"
	"golang.org/x/sys/unix"
)

// culprit is who drops a packet, and what to do about it.
type culprit struct{ what, mend string }

// culprit names the rule of an event.
func (f *flow) culprit(d *event, e *endpoint) culprit {
	where := fmt.Sprintf("table %s %s, chain %s", familyName(d.family), d.table, d.chain)
	if d.policy {
		return culprit{"the policy of " + where + " drops it", f.mend(d, e)}
	}
	text := ""
	var ns *netns.Namespace
	if e != nil {
		ns = e.ns
	}
	_ = within(ns, func() error { text = ruleset.Text(familyName(d.family), d.table, d.chain, d.rule); return nil })
	what := fmt.Sprintf("rule %d of %s drops it", d.rule, where)
	if text != "" {
		what += ": " + text
	}
	return culprit{what, f.mend(d, e)}
}

// mend is what to do about a rule.
func (f *flow) mend(d *event, e *endpoint) string {
	if e != nil {
		return fmt.Sprintf("change the rule: it is in the namespace of %s, and its own", e.label)
	}
	switch {
	case firewall.OwnTable(d.table), strings.HasPrefix(d.chain, "BERTH-"): // of iptables
		return f.ownReason()
	case d.table == "firewalld":
		return "firewall-cmd --zone=trusted --add-interface=" + f.bridge() + ", and the same with --permanent"
	case d.table == "filter" && d.chain == "FORWARD" && d.policy:
		return "berth reload has iptables let containers through (or: iptables -I FORWARD -i " + f.bridge() + " -j ACCEPT, and the same with -o)"
	case d.policy:
		return fmt.Sprintf("nft add rule %s %s %s iifname %s accept, before it ends (and the same with oifname)", familyName(d.family), d.table, d.chain, f.bridge())
	case d.table == "filter" || d.table == "nat" || d.table == "raw" || d.table == "mangle":
		return "it is a rule of iptables: iptables -S " + d.chain + " shows who made it"
	}
	return fmt.Sprintf("if nobody wants it: nft delete rule %s %s %s handle %d", familyName(d.family), d.table, d.chain, d.rule)
}

// bridge is the interface by which the host reaches the container that is on the way.
func (f *flow) bridge() string {
	for _, e := range []*endpoint{f.dest, &f.from} {
		for _, r := range e.records {
			if rules := firewall.RulesOf(r); rules != nil && rules.Bridge != "" {
				return rules.Bridge
			}
		}
	}
	return "BRIDGE"
}

// ownReason says why our own rules drop a flow.
func (f *flow) ownReason() string {
	from, to := f.from.record(f.source), f.dest.record(f.final.Addr())
	for _, r := range []*attach.Attachment{from, to} {
		if r == nil {
			continue
		}
		if rules := firewall.RulesOf(r); rules != nil && rules.Internal {
			return fmt.Sprintf("network %s is internal: nothing goes in or out. Connect both to another network", r.Network)
		}
	}
	switch {
	case from != nil && to != nil && from.Network != to.Network:
		return fmt.Sprintf("networks are isolated from each other: berth network connect %s %s", to.Network, names.Called(from))
	case from != nil && to != nil:
		if rules := firewall.RulesOf(to); rules != nil && rules.NoICC {
			return fmt.Sprintf("network %s keeps its containers from each other (icc): make one without", to.Network)
		}
	case to != nil && f.published == nil:
		return fmt.Sprintf("only published ports are reached from outside: publish port %d of %s", f.final.Port(), f.dest.label)
	}
	return "berth reload, and 'berth doctor'"
}

// beyond is for what leaves the host.
func (f *flow) beyond() string {
	if r := f.from.record(f.source); r != nil {
		if rules := firewall.RulesOf(r); rules != nil && rules.Overlay != "" {
			return "'berth doctor' asks the other hosts, and 'berth trace' there follows it further"
		}
		if rules := firewall.RulesOf(r); rules != nil && !rules.Masquerade {
			return fmt.Sprintf("network %s is not masqueraded: the other side needs a route to %s, or the network ipMasq", r.Network, f.source)
		}
	}
	return "it is beyond this host: a firewall on the way, or the other side itself"
}

// unseen: the source sends it, and the host sees nothing of it.
func (f *flow) unseen(r *Report) {
	if why, mend := f.isolation(); why != "" {
		r.end(theHost, Lost, why, mend)
		return
	}
	if from := f.from.record(f.source); from != nil && firewall.RulesOf(from) != nil {
		if c, err := rtnl.Dial(); err == nil {
			defer c.Close()
			if l, err := c.LinkByName(firewall.RulesOf(from).Bridge); err == nil { // whose ARP the host answers by the same decision
				if why, mend := routing(c, f.source, f.target.Addr(), l.Index); why != "" {
					r.end(theHost, Lost, why, mend)
					return
				}
			}
		}
	}
	r.guess(theHost, fmt.Sprintf("it leaves %s, and the host never sees it", f.from.label), "berth reload")
}

// notBridged: the bridge took it, and passes it on to nobody.
func (f *flow) notBridged(r *Report) {
	if why, mend := f.isolation(); why != "" {
		r.end(theHost, Lost, why, mend)
		return
	}
	r.guess(theHost, "the bridge does not pass it on: it does not know where the address is, or the port is not up", "berth reload")
}

// isolation tells whether both ends are isolated ports of one bridge.
func (f *flow) isolation() (why, mend string) {
	from, to := f.from.record(f.source), f.dest.record(f.final.Addr())
	if from == nil || to == nil {
		return "", ""
	}
	c, err := rtnl.Dial()
	if err != nil {
		return "", ""
	}
	defer c.Close()
	a, err := c.LinkByName(from.HostIfName())
	if err != nil {
		return "", ""
	}
	b, err := c.LinkByName(to.HostIfName())
	if err != nil || a.Master == 0 || a.Master != b.Master || !a.Port.Isolated || !b.Port.Isolated {
		return "", ""
	}
	return fmt.Sprintf("%s and %s are isolated ports of %s", a.Name, b.Name, linkName(c, a.Master)),
		fmt.Sprintf("network %s keeps its containers from each other (icc): make one without", to.Network)
}

// unrouted: the host's routing decision drops it.
func (f *flow) unrouted(r *Report, p *passage) {
	t := p.last()
	in := 0
	for _, e := range p.events {
		if e.family == unix.NFPROTO_INET && e.in != 0 {
			in = e.in
			break
		}
	}
	c, err := rtnl.Dial()
	if err == nil {
		defer c.Close()
		if why, mend := routing(c, t.src.Addr(), t.dst.Addr(), in); why != "" {
			r.end(theHost, Lost, why, mend)
			return
		}
	}
	r.guess(theHost, "the routing decision drops it", "berth doctor")
}

// routing says why the host does not pass on what comes in by a link; empty when it does.
func routing(c *rtnl.Conn, src, dst netip.Addr, in int) (why, mend string) {
	link := linkName(c, in)
	w, err := c.WayTo(dst, src, in)
	refused := errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EINVAL) // new kernels say EINVAL for both
	back, noWay := c.WayTo(src, netip.Addr{}, 0)
	switch {
	case refused && src.Is4() && filtersReverse(link) && (noWay != nil || back.Index != in):
		return fmt.Sprintf("rp_filter drops it: the way back to %s does not lead to %s", src, link),
			fmt.Sprintf("ip route get %s shows who takes it; or: sysctl -w net.ipv4.conf.%s.rp_filter=2", src, link)
	case refused:
		return fmt.Sprintf("%s cannot come in by %s (a martian)", src, link), fmt.Sprintf("ip route get %s from %s iif %s", dst, src, link)
	}
	if v4 := dst.Is4(); w.Type != unix.RTN_LOCAL && !forwards(v4, link) {
		name, key := "IPv4", "net.ipv4.conf."+link+".forwarding"
		if !v4 {
			name, key = "IPv6", "net.ipv6.conf.all.forwarding"
		}
		return fmt.Sprintf("the host forwards no %s from %s (%s is 0)", name, link, key), "berth reload"
	}
	if err != nil {
		return fmt.Sprintf("the host has no route to %s: %v", dst, err), "ip route get " + dst.String()
	}
	return "", ""
}

// undelivered: the host sends it on, and the container does not get it.
func (f *flow) undelivered(r *Report) {
	why := fmt.Sprintf("the host sends it on, and %s does not get it", f.dest.label)
	c, err := rtnl.Dial()
	if err != nil {
		r.guess(theHost, why, "berth reload")
		return
	}
	defer c.Close()
	if w, err := c.WayTo(f.final.Addr(), netip.Addr{}, 0); err == nil {
		out := linkName(c, w.Index)
		if own := f.dest.record(f.final.Addr()); own != nil {
			if rules := firewall.RulesOf(own); rules != nil && rules.Bridge != "" && rules.Group == 0 && rules.Bridge != out {
				r.end(theHost, Lost, fmt.Sprintf("it goes out by %s, and %s is reached by %s: another route takes it", out, f.dest.label, rules.Bridge),
					"ip route get "+f.final.Addr().String())
				return
			}
		}
		n, ok, _ := c.Neighbour(w.Index, f.final.Addr())
		if ok && (n.State == unix.NUD_FAILED || n.State == unix.NUD_INCOMPLETE) {
			why = fmt.Sprintf("nobody answers for %s on %s (ARP, NDP)", f.final.Addr(), out)
		}
	}
	r.guess(theHost, why, "berth reload")
}
