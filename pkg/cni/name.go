package cni

import (
	"encoding/json"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/containernetworking/cni/pkg/types"
)

// WantsNames tells whether the container's questions for names are to come to the
// agent: the network has names, or the container links.
func (r *Request) WantsNames() bool {
	return r.Conf.Names || len(r.args.CNI.Links) > 0
}

// Names is the step that gives the container its names, by the host's interface that
// its questions come in by, to a gateway that is the host's; nil when the network has no
// names and the container no links. Networks without names may have links, which only
// their container sees. subnets are the network's, beside those of the addresses.
func (r *Request) Names(bridge string, internal bool, subnets []netip.Prefix) attach.Step {
	r.served.names = true
	if !r.WantsNames() {
		return nil
	}
	var aliases json.RawMessage
	if r.Conf.Names {
		aliases = r.Conf.Runtime.Aliases
	}
	set, err := names.FromArgs(names.Source{Network: r.Conf.Name, Container: r.ContainerID, Args: r.Args, Aliases: aliases, CNI: rawCNI(r.Conf.Args)})
	if err != nil {
		r.problems = append(r.problems, err)
		return nil
	}
	if !r.Conf.Names {
		set.Names = nil
	}
	for _, left := range set.Left {
		Warn("network %s, container %s: %s", r.Conf.Name, r.ContainerID, left)
	}
	r.names = &names.Register{Bridge: bridge, Names: set.Names, Links: set.Links, Internal: internal, Subnets: subnets}
	// Who gives nameservers means those that are asked for what is not here.
	for i, s := range r.dns.Nameservers {
		server, err := netip.ParseAddr(s)
		if err != nil {
			r.Refuse("dns.nameservers", s, "want an address (number %d)", i)
			continue
		}
		r.names.Upstreams = append(r.names.Upstreams, server.Unmap())
	}
	return r.names
}

// refuseNames refuses names where the mode gives none.
func (r *Request) refuseNames() {
	if !r.Conf.Names {
		r.refuseCapability("aliases", r.Conf.Runtime.Aliases, `want "names": true in the configuration`)
	}
	switch {
	case r.served.names || !r.WantsNames():
	case r.Chained():
		r.Refuse("names", r.Conf.Names, "another plugin of the chain has made the interface: want false, and no args.cni.links")
	default:
		r.Refuse("names", r.Conf.Names, "this network has no gateway on the host, where names are asked for: want false, and no args.cni.links")
	}
}

// resolver is what the container is to have in its resolv.conf: with names, the
// gateway, and the network as the domain that a bare name is looked for in first.
func (r *Request) resolver(a *attach.Attachment) types.DNS {
	dns := r.dns
	if r.names == nil {
		return dns
	}
	dns.Nameservers = nil
	linkLocal := false // which a resolv.conf cannot name without the interface
	for _, addr := range a.Addresses {
		gw := addr.Gateway
		if !gw.IsValid() || len(dns.Nameservers) > 0 && (gw.IsLinkLocalUnicast() || !linkLocal) {
			continue
		}
		dns.Nameservers, linkLocal = []string{gw.String()}, gw.IsLinkLocalUnicast()
	}
	if d := names.Domain(r.Conf.Name); r.Conf.Names && d != "" && !slices.Contains(dns.Search, d) {
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
