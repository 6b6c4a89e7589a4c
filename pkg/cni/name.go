package cni

import (
	"encoding/json"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/names"
	"github.com/containernetworking/cni/pkg/types"
)

// WantsNames tells whether the container's questions for names are to come to the
// agent: the network has names, or the container links.
func (r *Request) WantsNames() bool {
	return r.Conf.Names || len(r.args.CNI.Links) > 0
}

// readNames reads what the container is called on the network, and what it calls
// others. Networks without names may have links, which only their container sees.
func (r *Request) readNames(plan *Plan) {
	raw := r.Conf.Runtime.Aliases
	if !r.Conf.Names {
		r.refuseCapability("aliases", raw, `want "names": true in the configuration`)
		raw = nil
	}
	if !r.WantsNames() {
		return
	}
	set, err := names.FromArgs(names.Source{Network: r.Conf.Name, Container: r.ContainerID, Args: r.Args, Aliases: raw, CNI: rawCNI(r.Conf.Args)})
	if err != nil {
		r.problems = append(r.problems, err)
		return
	}
	if !r.Conf.Names {
		set.Names = nil
	}
	if plan.NamesBridge == "" {
		r.Refuse("names", r.Conf.Names, "this network has no gateway on the host, where names are asked for: want false, and no args.cni.links")
		return
	}
	for _, left := range set.Left {
		Warn("network %s, container %s: %s", r.Conf.Name, r.ContainerID, left)
	}
	r.names = &names.Register{
		Bridge: plan.NamesBridge, Names: set.Names, Links: set.Links, Internal: plan.Internal,
		Subnets: plan.Network.Subnets,
	}
	// Who gives nameservers means those that are asked for what is not here.
	for i, s := range r.dns.Nameservers {
		server, err := netip.ParseAddr(s)
		if err != nil {
			r.Refuse("dns.nameservers", s, "want an address (number %d)", i)
			continue
		}
		r.names.Upstreams = append(r.names.Upstreams, server.Unmap())
	}
}

// resolver is what the container is to have in its resolv.conf: with names, the
// gateway, and the network as the domain that a bare name is looked for in first.
func (add *addition) resolver() types.DNS {
	dns := add.dns
	if add.names == nil {
		return dns
	}
	dns.Nameservers = nil
	for _, a := range add.a.Addresses {
		if a.Gateway.IsValid() && len(dns.Nameservers) == 0 {
			dns.Nameservers = []string{a.Gateway.String()}
		}
	}
	if d := names.Domain(add.Conf.Name); add.Conf.Names && d != "" && !slices.Contains(dns.Search, d) {
		dns.Search = append([]string{d}, dns.Search...)
	}
	return dns
}

// rawCNI is the cni section of args.
func rawCNI(args json.RawMessage) json.RawMessage {
	var sections struct {
		CNI json.RawMessage `json:"cni"`
	}
	_ = json.Unmarshal(args, &sections) // its form was checked before
	return sections.CNI
}
