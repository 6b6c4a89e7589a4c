package firewall

import (
	"errors"
	"net/netip"
	"strconv"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall/allow"
	"github.com/berth-cni/berth/pkg/internal/xtables"
	"github.com/coreos/go-iptables/iptables"
)

// questionTexts lead from what a container asks of its gateways to [chainAnswer], as
// questionChain does. On a bridge that somebody else made they are the container's own.
func (r *Rules) questionTexts(a *attach.Attachment, v6 bool) (all []xtables.Rule) {
	one := func(addr netip.Addr) string { return netip.PrefixFrom(addr, addr.BitLen()).String() }
	add := func(comment string, spec ...string) {
		all = append(all, xtables.Rule{Table: "nat", Chain: chainNames,
			Spec: append(spec, "-i", r.Bridge, "-m", "comment", "--comment", comment, "-j", chainAnswer)})
	}
	for _, addr := range a.Addresses {
		switch gw := addr.Gateway; {
		case !gw.IsValid() || gw.Is6() != v6:
		case r.Own || r.Foreign:
			add(a.Hash(), "-s", one(addr.Prefix.Addr()), "-d", one(gw))
		default:
			add(ofNetwork(r.Bridge), "-d", one(gw))
		}
	}
	return all
}

func ofNetwork(bridge string) string { return "berth network " + bridge }

// formerQuestions are what earlier versions made in place of questionTexts.
func formerQuestions(bridge string) (all []xtables.Rule) {
	for _, proto := range []string{"udp", "tcp"} {
		all = append(all, xtables.Rule{Table: "nat", Chain: chainNames, Spec: []string{"-i", bridge, "-p", proto, "-m", proto, "--dport", "53",
			"-m", "addrtype", "--dst-type", "LOCAL", "--limit-iface-in", "-j", "REDIRECT", "--to-ports", strconv.Itoa(allow.NamesPort),
			"-m", "comment", "--comment", ofNetwork(bridge)}})
	}
	return all
}

// answerTexts redirect what is asked to the agent's port.
func answerTexts(port uint16) (all []xtables.Rule) {
	for _, proto := range []string{"udp", "tcp"} {
		all = append(all, xtables.Rule{Table: "nat", Chain: chainAnswer, First: true,
			Spec: []string{"-p", proto, "-m", proto, "--dport", "53", "-j", "REDIRECT", "--to-ports", strconv.Itoa(int(port))}})
	}
	return all
}

// putQuestions makes what is missing. Where a rule is that leads to [chainAnswer], the
// chain is as it has to be.
func (r *Rules) putQuestions(t *iptables.IPTables, a *attach.Attachment, v6 bool) error {
	for _, x := range r.questionTexts(a, v6) {
		there, err := x.Exists(t)
		if err != nil {
			return err
		}
		if there {
			continue
		}
		if err := newChain(t, ownChain{x.Table, chainAnswer}); err != nil {
			return err
		}
		for _, answer := range answerTexts(answerPort()) {
			if err := answer.Ensure(t); err != nil {
				return err
			}
		}
		if err := errors.Join(x.Ensure(t), xtables.DeleteRules(t, formerQuestions(r.Bridge))); err != nil {
			return err
		}
	}
	return nil
}

// questionsOn are those of all networks that a bridge is of.
func questionsOn(t *iptables.IPTables, bridge string) ([]xtables.Rule, error) {
	all := formerQuestions(bridge)
	there, err := t.ChainExists("nat", chainNames)
	if err != nil || !there {
		return nil, err
	}
	lines, err := t.List("nat", chainNames)
	for _, line := range lines {
		w := words(line)
		if after(w, "-i") != bridge || after(w, "-j") != chainAnswer {
			continue
		}
		spec := []string{"-d", after(w, "-d"), "-i", bridge}
		comment := ofNetwork(bridge)
		if from := after(w, "-s"); from != "" {
			spec, comment = append([]string{"-s", from}, spec...), after(w, "--comment")
		}
		all = append(all, xtables.Rule{Table: "nat", Chain: chainNames, Spec: append(spec, "-m", "comment", "--comment", comment, "-j", chainAnswer)})
	}
	return all, err
}

// moveAnswers redirects to another port.
func moveAnswers(t *iptables.IPTables, from, to uint16) error {
	for _, x := range answerTexts(to) {
		if err := x.Ensure(t); err != nil {
			return err
		}
	}
	return xtables.DeleteRules(t, answerTexts(from))
}
