package firewall

import (
	"context"
	"errors"
	"fmt"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall/allow"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/internal/xtables"
)

// Hairpin is the step for what somebody else translates between two containers of a
// bridge, such as kube-proxy for a service. Where frames between ports of a bridge pass
// the host's firewall (net.bridge.bridge-nf-call-iptables, module br_netfilter), the
// answer is translated back on its way, and the sender's address is left as it is. Where
// they do not, the answer has to be sent to the host: what was translated is masqueraded.
//
// It belongs to the network: Add ensures it, Del leaves it.
type Hairpin struct {
	Backend string `json:"backend"`
	Bridge  string `json:"bridge"`
}

// Kind implements [attach.Step].
func (*Hairpin) Kind() string { return "hairpin" }

// Place implements [attach.Shared].
func (h *Hairpin) Place() string { return "hairpin " + h.Bridge }

// Join implements [attach.Shared].
func (h *Hairpin) Join(attach.Shared) attach.Shared { return h }

// filtered tells whether frames between ports of bridges pass the firewall of a family.
// Without the module there is no such setting.
func filtered(v6 bool) (bool, error) {
	name := "bridge-nf-call-iptables"
	if v6 {
		name = "bridge-nf-call-ip6tables"
	}
	value, err := proc.Read(proc.Net("bridge", name))
	return value != "" && value != "0", err
}

// Add implements [attach.Step].
func (h *Hairpin) Add(_ context.Context, a *attach.Adding) error { return h.each(a.Attachment, h.set) }

// Check implements [attach.Step].
func (h *Hairpin) Check(_ context.Context, a *attach.Attachment) error {
	return h.each(a, func(v6, wanted bool) error {
		there, err := h.there(v6)
		switch {
		case err != nil || there == wanted:
			return err
		case wanted:
			return fmt.Errorf("bridge %s: what others translate between its ports is not masqueraded, and br_netfilter is off", h.Bridge)
		}
		return fmt.Errorf("bridge %s: what others translate between its ports is masqueraded, and br_netfilter is on", h.Bridge)
	})
}

// Del implements [attach.Step].
func (*Hairpin) Del(context.Context, *attach.Attachment) error { return nil }

// each calls fn for the families of the attachment.
func (h *Hairpin) each(a *attach.Attachment, fn func(v6, wanted bool) error) error {
	var errs []error
	for _, v6 := range families(a) {
		passes, err := filtered(v6)
		if err == nil {
			err = fn(v6, !passes)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (h *Hairpin) elements() []nftnl.Element {
	return []nftnl.Element{{Set: hairpin4, Key: nftnl.Name(h.Bridge)}, {Set: hairpin6, Key: nftnl.Name(h.Bridge)}}
}

func (h *Hairpin) element(v6 bool) []nftnl.Element {
	if v6 {
		return h.elements()[1:]
	}
	return h.elements()[:1]
}

// there tells whether what others translate is masqueraded.
func (h *Hairpin) there(v6 bool) (bool, error) {
	if h.Backend == IPTables {
		t, err := open(v6)
		if err != nil {
			return false, err
		}
		return h.text().Exists(t)
	}
	s, err := dial()
	if err != nil {
		return false, err
	}
	there, err := s.Have(h.element(v6))
	return err == nil && there[0], err
}

// set makes it so, or not so.
func (h *Hairpin) set(v6, wanted bool) error {
	there, err := h.there(v6)
	if err != nil || there == wanted {
		return err
	}
	if h.Backend == IPTables {
		t, err := open(v6)
		switch {
		case err != nil:
			return err
		case wanted:
			return h.text().Ensure(t)
		}
		return xtables.DeleteRules(t, []xtables.Rule{h.text()})
	}
	s, err := dial()
	switch {
	case err != nil:
		return err
	case wanted:
		return s.Write(h.element(v6))
	}
	return s.Remove(h.element(v6))
}

func (h *Hairpin) text() xtables.Rule {
	spec := append(words("-o "+h.Bridge+" -m comment --comment"), allow.ForwardComment(h.Bridge), "-j", "MASQUERADE")
	return xtables.Rule{Table: "nat", Chain: chainTranslated, Spec: spec}
}
