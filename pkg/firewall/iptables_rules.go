package firewall

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/xtables"
)

// The chains of the iptables backend, with the meaning of the nftables table's.
const (
	chainNames      = "BERTH-NAMES"
	chainAnswer     = "BERTH-ANSWER"
	chainPublish    = "BERTH-PUBLISH"
	chainHairpin    = "BERTH-HAIRPIN"
	chainTranslated = "BERTH-TRANSLATED"
	chainMasquerade = "BERTH-MASQUERADE"
	chainRouted     = "BERTH-ROUTED"
	chainForward    = "BERTH-FORWARD"
	chainIsolated   = "BERTH-ISOLATED"
	chainProtected  = "BERTH-PROTECTED"
	chainInput      = "BERTH-INPUT"
	chainRaw        = "BERTH-RAW"
)

type ownChain struct{ table, name string }

func ownChains(v6 bool) []ownChain {
	all := []ownChain{
		{"nat", chainNames}, {"nat", chainAnswer}, {"nat", chainPublish}, {"nat", chainHairpin}, {"nat", chainTranslated}, {"nat", chainMasquerade}, {"nat", chainRouted},
		{"filter", chainForward}, {"filter", chainIsolated}, {"filter", chainProtected}, {"filter", chainInput},
	}
	if v6 { // has no loopback addresses that a bridge would take
		return all
	}
	return append(all, ownChain{"raw", chainRaw})
}

func words(s string) []string { return strings.Fields(s) }

// jumps lead from the built-in chains to ours. Those of filter come first, so
// that nobody accepts what we drop; our chains there only drop, and leave
// everything else to the rules behind them.
func jumps(v6 bool) []xtables.Rule {
	local := "-m addrtype --dst-type LOCAL -j " + chainPublish
	outside, output := "! -d 127.0.0.0/8 "+local, local // see natChains
	if v6 {
		outside = local
		output = "! -s ::1/128 " + local // the kernel drops the answers to what NAT sends away from ::1
	}
	all := []xtables.Rule{
		{Table: "nat", Chain: "PREROUTING", Spec: words("-m addrtype --dst-type LOCAL -j " + chainNames)}, // before published ports
		{Table: "nat", Chain: "PREROUTING", Spec: words(outside)},
		{Table: "nat", Chain: "OUTPUT", Spec: words(output)},
		{Table: "nat", Chain: "POSTROUTING", Spec: words("-j " + chainHairpin)},
		{Table: "nat", Chain: "POSTROUTING", Spec: words("-j " + chainMasquerade)},
		{Table: "nat", Chain: chainMasquerade, Spec: words("-j " + chainRouted)}, // behind what returns for bridges
		{Table: "filter", Chain: "FORWARD", Spec: words("-j " + chainForward), First: true},
		{Table: "filter", Chain: "INPUT", Spec: words("-j " + chainInput), First: true},
	}
	if v6 {
		return all
	}
	return append(all, xtables.Rule{Table: "raw", Chain: "PREROUTING", Spec: words("-j " + chainRaw)})
}

// formerJumps are what earlier versions made in place of jumps.
func formerJumps(v6 bool) []xtables.Rule {
	if v6 {
		return nil
	}
	return []xtables.Rule{{Table: "nat", Chain: "PREROUTING", Spec: words("-m addrtype --dst-type LOCAL -j " + chainPublish)}}
}

// networkTexts are what the network's rules ask for; unwanted what other
// settings left.
func (r *Rules) networkTexts(v6 bool) (wanted, unwanted []xtables.Rule) {
	mark := func(x xtables.Rule, spec string) xtables.Rule {
		x.Spec = append(words(strings.ReplaceAll(spec, "BRIDGE", r.Bridge)), "-m", "comment", "--comment", ofNetwork(r.Bridge))
		return x
	}
	const fresh = " -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT"
	wanted = []xtables.Rule{
		mark(xtables.Rule{Table: "nat", Chain: chainMasquerade, First: true}, "-o BRIDGE -j RETURN"),
		mark(xtables.Rule{Table: "filter", Chain: chainProtected, First: true}, "-i BRIDGE -j RETURN"), // not from outside
	}
	if !v6 {
		wanted = append(wanted,
			mark(xtables.Rule{Table: "raw", Chain: chainRaw}, "-i BRIDGE -d 127.0.0.0/8 -j DROP"),
			mark(xtables.Rule{Table: "raw", Chain: chainRaw}, "-i BRIDGE -s 127.0.0.0/8 -j DROP"),
			mark(xtables.Rule{Table: "nat", Chain: chainHairpin}, "-s 127.0.0.0/8 -o BRIDGE -j MASQUERADE"))
	}
	// The address types differ by family: an IPv6 address of another interface
	// is of type LOCAL, an IPv4 one of type UNICAST (net/netfilter/xt_addrtype.c).
	other := " -m addrtype --dst-type UNICAST --limit-iface-in"
	if v6 {
		other = " -m addrtype ! --dst-type LOCAL --limit-iface-in -m addrtype --dst-type UNICAST"
	}
	for _, m := range []struct {
		on          bool
		chain, spec string
	}{
		{r.Internal, chainForward, "-i BRIDGE ! -o BRIDGE -j DROP"},
		{r.Internal, chainForward, "! -i BRIDGE -o BRIDGE -j DROP"},
		{r.Internal, chainInput, "-i BRIDGE -m conntrack ! --ctstate RELATED,ESTABLISHED" + other + " -j DROP"},
		{r.NoICC, chainForward, "-i BRIDGE -o BRIDGE" + fresh + " -j DROP"},
		{r.Isolate, chainForward, "-i BRIDGE ! -o BRIDGE" + fresh + " -j " + chainIsolated},
		{r.Isolate, chainIsolated, "-o BRIDGE -j DROP"},
		{r.Mode(v6) == Routed, chainProtected, "-o BRIDGE -p " + icmp(v6) + " -j RETURN"},
		{r.Mode(v6).protects(), chainForward, "! -i BRIDGE -o BRIDGE" + fresh + " -j " + chainProtected},
		{r.Mode(v6).protects(), chainProtected, "-o BRIDGE -j DROP"},
	} {
		returns := strings.HasSuffix(m.spec, "RETURN") // in front of all that drops
		x := mark(xtables.Rule{Table: "filter", Chain: m.chain, First: returns}, m.spec)
		if m.on {
			wanted = append(wanted, x)
		} else {
			unwanted = append(unwanted, x)
		}
	}
	if r.Overlay != "" {
		wanted = append(wanted, r.tunnel().texts(v6)...)
	}
	return wanted, unwanted
}

// everyText is all that networks of any settings have.
func everyText(bridge string, v6 bool) []xtables.Rule {
	every := &Rules{Bridge: bridge, Internal: true, Isolate: true, NoICC: true, Mode4: Routed, Mode6: Routed}
	all, _ := every.networkTexts(v6)
	return append(all, (&Hairpin{Bridge: bridge}).text())
}

func icmp(v6 bool) string {
	if v6 {
		return "ipv6-icmp"
	}
	return "icmp"
}

// containerTexts are one container's rules in one family. A published port comes
// first in its chain, in front of what somebody who is gone may have left.
func (r *Rules) containerTexts(a *attach.Attachment, v6 bool) []xtables.Rule {
	mark := func(x xtables.Rule, spec ...string) xtables.Rule {
		x.Spec = append(spec, "-m", "comment", "--comment", a.Hash())
		return x
	}
	multicast := "224.0.0.0/4"
	if v6 {
		multicast = "ff00::/8"
	}
	var all []xtables.Rule
	for _, addr := range a.Addresses {
		ip := addr.Prefix.Addr()
		if ip.Is6() != v6 {
			continue
		}
		one := netip.PrefixFrom(ip, ip.BitLen()).String()
		all = append(all, mark(xtables.Rule{Table: "nat", Chain: chainHairpin},
			"-s", one, "-o", r.Bridge, "-m", "conntrack", "--ctstate", "DNAT", "-j", chainTranslated))
		if r.hides(v6) {
			hidden := chainMasquerade
			if r.Overlay != "" {
				hidden = chainRouted
			}
			all = append(all, mark(xtables.Rule{Table: "nat", Chain: hidden},
				"-s", one, "!", "-d", multicast, "-j", "MASQUERADE"))
		}
	}
	forwards, _ := forwards(a)
	for _, f := range forwards {
		if f.host.Is6() != v6 {
			continue
		}
		spec := []string{"-p", f.protocol}
		if !f.host.IsUnspecified() {
			spec = append(spec, "-d", netip.PrefixFrom(f.host, f.host.BitLen()).String())
		}
		spec = append(spec, "-m", f.protocol, "--dport", strconv.Itoa(int(f.hostPort)))
		all = append(all, mark(xtables.Rule{Table: "nat", Chain: chainPublish, First: true},
			append(spec, "-j", "DNAT", "--to-destination", f.to.String())...), mark(xtables.Rule{Table: "nat", Chain: chainTranslated}, f.hairpin()...))
	}
	opened, _ := r.opened(a)
	for _, f := range opened {
		if f.to.Addr().Is6() != v6 {
			continue
		}
		to := f.to.Addr()
		for _, chain := range []string{chainProtected, chainIsolated} {
			all = append(all, mark(xtables.Rule{Table: "filter", Chain: chain, First: true},
				"-d", netip.PrefixFrom(to, to.BitLen()).String(), "-p", f.protocol, "-m", f.protocol, "--dport", strconv.Itoa(int(f.to.Port())), "-j", "RETURN"))
		}
	}
	return all
}

// hairpin matches what was sent to the published port, by containers of the same bridge.
// The kernel keeps where a connection went at first, so that a service is told from it
// unless it has the port's number, too. connlabel, by which nftables tells ours, would
// have iptables complain of a file that hosts do not have.
func (f *forward) hairpin() []string {
	to := f.to.Addr()
	spec := []string{"-d", netip.PrefixFrom(to, to.BitLen()).String(), "-p", f.protocol, "-m", f.protocol, "--dport", strconv.Itoa(int(f.to.Port())), "-m", "conntrack"}
	if !f.host.IsUnspecified() {
		spec = append(spec, "--ctorigdst", f.host.String())
	}
	return append(spec, "--ctorigdstport", strconv.Itoa(int(f.hostPort)), "-j", "MASQUERADE")
}

// formerTexts are what earlier versions made in place of containerTexts.
func (r *Rules) formerTexts(a *attach.Attachment, v6 bool) (all []xtables.Rule) {
	for _, x := range r.containerTexts(a, v6) {
		if i := slices.Index(x.Spec, chainTranslated); i >= 0 {
			x.Spec = slices.Clone(x.Spec)
			x.Spec[i] = "MASQUERADE"
			all = append(all, x)
		}
	}
	return all
}
