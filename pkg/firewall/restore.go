package firewall

import (
	"context"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
)

// elementsOf returns what the table holds for these attachments: nothing for one
// that is being deleted.
func elementsOf(all []*attach.Attachment) []nftnl.Element {
	var elements []nftnl.Element
	for _, a := range all {
		r := RulesOf(a)
		if a.Deleting || r == nil || r.Backend != NFTables {
			continue
		}
		if own, err := r.containerElements(a); err == nil { // else Add refused it
			elements = append(elements, own...)
		}
		elements = append(elements, r.gatewayElements(a)...)
	}
	networks := Networks(all, NFTables)
	for _, n := range networks {
		wanted, _ := n.Rules.networkElements()
		elements = append(elements, wanted...)
	}
	for _, v6 := range []bool{false, true} {
		if passes, err := filtered(v6); err != nil || passes {
			continue
		}
		for _, n := range networks {
			elements = append(elements, (&Hairpin{Bridge: n.Rules.Bridge}).element(v6)...)
		}
	}
	more, _ := interfaceElements(all, networks)
	return append(elements, more...)
}

// interfaceElements are what each container of the networks without a bridge has of its
// network's settings, for its own interface.
func interfaceElements(all []*attach.Attachment, networks map[string]*Network) (wanted, unwanted []nftnl.Element) {
	for _, a := range all {
		r := RulesOf(a)
		if a.Deleting || r == nil || r.Backend != NFTables || r.Group == 0 {
			continue
		}
		if n := networks[r.Network()]; n != nil {
			these, not := n.Current(r).networkElements()
			wanted, unwanted = append(wanted, these...), append(unwanted, not...)
		}
	}
	return wanted, unwanted
}

// recordElements is elementsOf all records that there are at the time of each call.
func recordElements(ctx context.Context, all records) func() ([]nftnl.Element, error) {
	return func() ([]nftnl.Element, error) {
		if all == nil {
			return nil, nil
		}
		list, err := all(ctx)
		return append(elementsOf(list), portElements(answerPort())...), err
	}
}
