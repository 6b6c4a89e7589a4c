package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/link"
)

// checkBridgeNF is about br_netfilter, which has bridged frames pass the firewall that
// routed packets pass: then a firewall that drops also keeps neighbours on one bridge
// from each other.
func checkBridgeNF(f *facts) ([]Problem, error) {
	var found []Problem
	for _, family := range []struct {
		v4      bool
		setting string
	}{{true, "net.bridge.bridge-nf-call-iptables"}, {false, "net.bridge.bridge-nf-call-ip6tables"}} {
		if !f.Host.BridgeNF[family.v4] {
			continue
		}
		for _, d := range f.Host.drops("forward") {
			if family.v4 && !d.V4() || !family.v4 && !d.V6() {
				continue
			}
			for _, bridge := range f.Host.barredBy(d) {
				found = append(found, problem(fmt.Sprintf("bridged frames pass the firewall (%s), and %s drops those of bridge %s", family.setting, d, bridge),
					"containers of one network do not reach each other", mendReload+", or: sysctl -w "+family.setting+"=0", f.Host.behind(bridge)))
			}
		}
	}
	return found, nil
}

// policiesTable is the nftables table of sigs.k8s.io/kube-network-policies.
const policiesTable = "inet kube-network-policies"

// checkPolicies is about Kubernetes' NetworkPolicy where a program of its own applies it to
// what the host routes: what is bridged passes there only with br_netfilter.
func checkPolicies(f *facts) ([]Problem, error) {
	if f.Host.Filters == nil || !f.Host.Filters.Tables[policiesTable] {
		return nil, nil
	}
	var off []string
	for _, family := range []struct {
		v4      bool
		setting string
	}{{true, "net.bridge.bridge-nf-call-iptables"}, {false, "net.bridge.bridge-nf-call-ip6tables"}} {
		if !f.Host.BridgeNF[family.v4] {
			off = append(off, family.setting)
		}
	}
	bridged := map[string]bool{}
	for _, a := range f.Host.living() {
		if r := firewall.RulesOf(a); r != nil && r.Group == 0 {
			bridged[a.Network] = true
		}
	}
	var found []Problem
	for _, network := range slices.Sorted(maps.Keys(bridged)) {
		if len(off) > 0 {
			found = append(found, problem(fmt.Sprintf("network %s has a bridge, and bridged frames pass no policy: %s is not 1", network, strings.Join(off, ", ")),
				"a NetworkPolicy does not apply between pods of this host",
				"modprobe br_netfilter, then: sysctl -w "+strings.Join(off, "=1 ")+`=1; or have the network without a bridge ("mode": "routed")`, about{network: network}))
		}
	}
	return found, f.Host.FiltersErr
}

// checkBridgedPods is about what Kubernetes has the firewall do between pods of one bridge.
func checkBridgedPods(f *facts) ([]Problem, error) {
	for v4, setting := range map[bool]string{true: "net.bridge.bridge-nf-call-iptables", false: "net.bridge.bridge-nf-call-ip6tables"} {
		if pods := f.Host.podsOnBridges(v4); pods > 0 && !f.Host.BridgeNF[v4] {
			return []Problem{problem(fmt.Sprintf("pods on a bridge: %d, and what is sent between them passes no firewall (%s is not 1)", pods, setting),
				"a Service hides the client's address there",
				"run the agent with --bridge-netfilter, or with --mode routed, which needs no bridge; or modprobe br_netfilter, and sysctl -w "+setting+"=1")}, nil
		}
	}
	return nil, nil
}

// podsOnBridges counts the pods of Kubernetes that have an address of the family and are on a
// bridge.
func (h *hostFacts) podsOnBridges(v4 bool) int {
	n := 0
	for _, a := range h.Records {
		onBridge := slices.ContainsFunc(a.Steps, func(s attach.Step) bool { v, ok := s.(*link.Veth); return ok && v.Bridge != "" })
		of := slices.ContainsFunc(a.Addresses, func(x attach.Address) bool { return x.Prefix.Addr().Is4() == v4 })
		if a.Args["K8S_POD_NAME"] != "" && onBridge && of && h.States[a.Key] != host.Gone {
			n++
		}
	}
	return n
}
