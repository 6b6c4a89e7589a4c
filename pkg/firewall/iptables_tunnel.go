package firewall

import (
	"context"
	"errors"
	"os/exec"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"github.com/berth-cni/berth/pkg/internal/xtables"
	"github.com/coreos/go-iptables/iptables"
)

// tunnelMark is the comment's beginning of every rule that names a VXLAN device.
const tunnelMark = "berth-tunnel-"

// tunnelChains are those that have such rules.
var tunnelChains = []ownChain{
	{"nat", chainRouted}, {"filter", chainForward}, {"filter", chainIsolated}, {"filter", chainProtected}, {"filter", chainInput},
}

// texts are what agent and containers make alike for a tunnel, each in the words
// and the order in which iptables lists it.
//
// Bridge and device are one network: what passes between them leaves our chain
// before the rules that part a network from the rest, but what NoICC drops.
func (t *Tunnel) texts(v6 bool) []xtables.Rule {
	const fresh = " -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT"
	const other = " -m conntrack --ctstate RELATED,ESTABLISHED,DNAT"
	returns := ""
	if t.NoICC {
		returns = other
	}
	unicast := " -m addrtype --dst-type UNICAST --limit-iface-in"
	if v6 { // as for bridges
		unicast = " -m addrtype ! --dst-type LOCAL --limit-iface-in -m addrtype --dst-type UNICAST"
	}
	var all []xtables.Rule
	for _, m := range []struct {
		on                        bool
		table, chain, match, verb string
		first                     bool
	}{
		{true, "nat", chainRouted, "-o DEVICE", "RETURN", true},
		{true, "filter", chainProtected, "-i DEVICE", "RETURN", true},
		{true, "filter", chainForward, "-i BRIDGE -o DEVICE" + returns, "RETURN", true},
		{true, "filter", chainForward, "-i DEVICE -o BRIDGE" + returns, "RETURN", true},
		{t.NoICC, "filter", chainForward, "-i BRIDGE -o DEVICE" + fresh, "DROP", false},
		{t.NoICC, "filter", chainForward, "-i DEVICE -o BRIDGE" + fresh, "DROP", false},
		{t.Internal, "filter", chainForward, "-i DEVICE ! -o BRIDGE", "DROP", false},
		{t.Internal, "filter", chainForward, "! -i BRIDGE -o DEVICE", "DROP", false},
		{t.Internal, "filter", chainInput, "-i DEVICE -m conntrack ! --ctstate RELATED,ESTABLISHED" + unicast, "DROP", false},
		{t.Isolate, "filter", chainForward, "-i DEVICE ! -o BRIDGE" + fresh, chainIsolated, false},
		{t.Isolate, "filter", chainIsolated, "-o DEVICE", "DROP", false},
	} {
		if m.on {
			names := strings.NewReplacer("BRIDGE", t.Bridge, "DEVICE", t.Device)
			spec := words(names.Replace(m.match + " -m comment --comment " + tunnelMark + "DEVICE -j "))
			all = append(all, xtables.Rule{Table: m.table, Chain: m.chain, Spec: append(spec, m.verb), First: m.first})
		}
	}
	return all
}

// syncTunnels has nftables guard the tunnels: their packets, and what comes out.
func (b ipt) syncTunnels(ctx context.Context, tunnels []Tunnel, all records) error {
	var guard []nftnl.Element
	for i := range tunnels {
		guard = append(guard, tunnels[i].guardElements()...)
		for _, set := range []string{overlay, ways, inside} {
			guard = append(guard, nftnl.Element{Set: set, Key: nftnl.Name(tunnels[i].Device), Lasting: true})
		}
		guard = append(guard, nftnl.Element{Set: inside, Key: nftnl.Name(tunnels[i].Bridge), Lasting: true})
		guard = append(guard, tunnels[i].portElements()...)
	}
	errs := []error{syncElements(ctx, guard, all)}
	for _, v6 := range []bool{false, true} {
		t, err := open(v6)
		if v6 && errors.Is(err, exec.ErrNotFound) {
			continue
		}
		if err == nil {
			err = b.sync(ctx, t, v6, tunnels, all)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ForgetIPTables removes what an agent that used iptables left of tunnels, for one that
// uses nftables now; but for what the records ask for. Nothing where there is no
// iptables.
func ForgetIPTables(ctx context.Context, all func(context.Context) ([]*attach.Attachment, error)) error {
	var errs []error
	for _, v6 := range []bool{false, true} {
		t, err := open(v6)
		if errors.Is(err, exec.ErrNotFound) {
			continue
		}
		if err == nil {
			err = ipt{}.sync(ctx, t, v6, nil, all)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (ipt) sync(ctx context.Context, t *iptables.IPTables, v6 bool, tunnels []Tunnel, all records) error {
	if len(tunnels) > 0 {
		if err := ensureChains(t, v6); err != nil {
			return err
		}
	}
	there, err := tunnelTexts(t)
	if err != nil {
		return err
	}
	var wanted []xtables.Rule
	for i := range tunnels {
		wanted = append(wanted, tunnels[i].texts(v6)...)
	}
	for _, x := range xtables.Lacking(wanted, there) {
		if err := x.Ensure(t); err != nil {
			return err
		}
	}
	surplus := xtables.Lacking(there, wanted)
	if len(surplus) == 0 || all == nil {
		return xtables.DeleteRules(t, surplus)
	}
	held, err := recordTexts(ctx, v6, all)
	if err != nil {
		return err
	}
	gone := xtables.Lacking(surplus, held)
	if err := xtables.DeleteRules(t, gone); err != nil || len(gone) == 0 {
		return err
	}
	if held, err = recordTexts(ctx, v6, all); err != nil { // a container came meanwhile
		return err
	}
	for _, x := range xtables.Lacking(held, xtables.Lacking(held, gone)) {
		if err := x.Ensure(t); err != nil {
			return err
		}
	}
	return nil
}

// tunnelTexts lists what our chains have of tunnels.
func tunnelTexts(t *iptables.IPTables) (all []xtables.Rule, err error) {
	for _, c := range tunnelChains {
		lines, err := t.List(c.table, c.name)
		const missing = 1 // iptables(8): the chain, in words that differ; for other errors too, which the rules then meet
		var e *iptables.Error
		if errors.As(err, &e) && e.ExitStatus() == missing {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, line := range lines {
			if strings.Contains(line, tunnelMark) {
				spec := words(strings.ReplaceAll(line, `"`, ""))[2:] // after -A and the chain
				all = append(all, xtables.Rule{Table: c.table, Chain: c.name, Spec: spec})
			}
		}
	}
	return all, nil
}

// recordTexts are what the containers' networks ask for, each as its newest does.
func recordTexts(ctx context.Context, v6 bool, all records) (texts []xtables.Rule, err error) {
	attachments, err := all(ctx)
	for _, n := range Networks(attachments, IPTables) {
		if n.Rules.Overlay != "" {
			texts = append(texts, n.Rules.tunnel().texts(v6)...)
		}
	}
	return texts, err
}
