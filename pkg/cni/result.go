package cni

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/schema"
	"github.com/berth-cni/berth/pkg/ipam"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
)

// print writes the result in the version of the configuration (SPEC section 5).
func (r *Request) print(w io.Writer, a *attach.Adding) error {
	version := r.Conf.CNIVersion
	if version == "" {
		version = "0.1.0" // SPEC 0.1.0 had no such key
	}
	res := r.result(a)
	if version != "1.1.0" {
		forget110(res)
	}
	if strings.HasPrefix(version, "1.") {
		res.CNIVersion = version
		return encode(w, res)
	}
	if len(res.IPs) == 0 && strings.HasPrefix(version, "0.") && version < "0.3" {
		Warn("cniVersion %q has no result without an address: want 0.3.0 or later for a network of layer 2", version)
		return errNoAddress
	}
	old, err := res.GetAsVersion(version)
	if err != nil {
		return err
	}
	return old.PrintTo(w)
}

// errNoAddress has the words of the CNI library, and so of the reference plugins.
var errNoAddress = badConfig("cannot convert: no valid IP addresses")

// encode writes a result of version 1. The library's own encoder writes, reads and
// writes it again, to leave out an empty dns.
func encode(w io.Writer, res *current.Result) error {
	out := struct {
		CNIVersion string               `json:"cniVersion"`
		Interfaces []*current.Interface `json:"interfaces,omitempty"`
		IPs        []*current.IPConfig  `json:"ips,omitempty"`
		Routes     []*types.Route       `json:"routes,omitempty"`
		DNS        *types.DNS           `json:"dns,omitempty"`
	}{res.CNIVersion, res.Interfaces, res.IPs, res.Routes, nil}
	if !res.DNS.IsEmpty() {
		out.DNS = &res.DNS
	}
	return json.NewEncoder(w).Encode(out)
}

// result is the previous plugin's result with what this one added.
func (r *Request) result(a *attach.Adding) *current.Result {
	res := &current.Result{CNIVersion: current.ImplementedSpecVersion}
	if r.prev.result != nil {
		res = r.prev.result
	}
	res.DNS = r.resultDNS(a.Attachment, res.DNS)
	if r.Chained() || r.mode.Unrecorded && r.prev.result != nil {
		return res
	}
	inside := -1
	for _, i := range a.Interfaces {
		if i.Sandbox != "" && r.answersFor(a.Attachment, i) {
			inside = len(res.Interfaces)
		}
		res.Interfaces = append(res.Interfaces, &current.Interface{Name: i.Name, Mac: i.MAC, Mtu: i.MTU, Sandbox: i.Sandbox})
	}
	for _, addr := range a.Addresses {
		ip := &current.IPConfig{Address: toIPNet(addr.Prefix), Gateway: toIP(addr.Gateway)}
		if inside >= 0 {
			ip.Interface = current.Int(inside)
		}
		res.IPs = append(res.IPs, ip)
	}
	for _, r := range a.Routes {
		res.Routes = append(res.Routes, &types.Route{Dst: toIPNet(r.Dst), GW: toIP(r.Gateway), MTU: r.MTU,
			AdvMSS: r.AdvMSS, Priority: r.Priority, Table: r.Table, Scope: r.Scope})
	}
	return res
}

// answersFor tells whether the addresses are said to be the interface's. containerd
// wants an address of CNI_IFNAME, and takes those of no interface for it: so they are
// in a namespace that was joined, where the interface has another name.
func (r *Request) answersFor(a *attach.Attachment, i attach.Interface) bool {
	return netns.RebindOf(a) == nil || i.Name == r.IfName
}

// resultDNS is what the runtime gave, else the configuration, else the delegated IPAM.
func (r *Request) resultDNS(a *attach.Attachment, before types.DNS) types.DNS {
	if d := r.resolver(a); !d.IsEmpty() {
		return d
	}
	for _, s := range a.Steps {
		if d, ok := s.(*ipam.Delegate); ok && !d.DNS.IsEmpty() {
			return d.DNS
		}
	}
	return before
}

// forget110 drops what only SPEC 1.1.0 knows of interfaces. What it knows of routes
// stays, as in every result of the CNI library: a later plugin of the chain, which moves
// them to another table, would lose it.
func forget110(res *current.Result) {
	for _, i := range res.Interfaces {
		i.Mtu, i.SocketPath, i.PciID = 0, "", ""
	}
}

// previous is the result of the plugins before this one in a chain, and what of
// it is about the request's interface.
type previous struct {
	result *current.Result // nil without one
	index  int             // of the request's interface in it; -1 when it is not there
}

// previous reads prevResult. The request's interface is in its namespace, or in
// another path of it.
func (r *Request) previous(paths ...string) (*previous, error) {
	p := &previous{index: -1}
	if len(r.Conf.PrevResult) == 0 || string(r.Conf.PrevResult) == "null" {
		return p, nil
	}
	version, data, err := versioned(r.Conf.PrevResult, r.Conf.CNIVersion)
	if err != nil {
		return nil, configError{schema.Explain("prevResult", err)}
	}
	res, err := create.Create(version, data)
	if err == nil {
		p.result, err = current.NewResultFromResult(res)
	}
	if err != nil {
		return nil, configError{schema.Explain("prevResult", err)}
	}
	p.index = slices.IndexFunc(p.result.Interfaces, func(i *current.Interface) bool {
		return i.Name == r.IfName && i.Sandbox != "" && (i.Sandbox == r.Netns || slices.Contains(paths, i.Sandbox))
	})
	return p, nil
}

// versioned returns a result with its version: that of the configuration when it does
// not say its own.
func versioned(result []byte, version string) (string, []byte, error) {
	var own struct {
		CNIVersion string `json:"cniVersion"`
	}
	if err := json.Unmarshal(result, &own); err != nil {
		return "", nil, err
	}
	if own.CNIVersion != "" {
		return own.CNIVersion, result, nil
	}
	var fields map[string]any
	if err := json.Unmarshal(result, &fields); err != nil {
		return "", nil, err
	}
	fields["cniVersion"] = version
	result, err := json.Marshal(fields)
	return version, result, err
}

// chained reports whether an earlier plugin made the request's interface.
func (p *previous) chained() bool { return p != nil && p.index >= 0 }

// interfaces counts those of the previous plugins.
func (p *previous) interfaces() int {
	if p.result == nil {
		return 0
	}
	return len(p.result.Interfaces)
}

// hostIf is the host's interface that leads to the container: the first one that
// is in no sandbox.
func (p *previous) hostIf() string {
	for _, i := range p.result.Interfaces {
		if i.Sandbox == "" {
			return i.Name
		}
	}
	return ""
}

// addresses are those of the request's interface; all of them when the result does not
// have that.
func (p *previous) addresses() []attach.Address {
	var all []attach.Address
	for _, ip := range p.result.IPs {
		if p.chained() && ip.Interface != nil && *ip.Interface != p.index {
			continue
		}
		gw, _ := netip.AddrFromSlice(ip.Gateway)
		all = append(all, attach.Address{Prefix: fromIPNet(ip.Address), Gateway: gw.Unmap()})
	}
	return all
}

func (p *previous) prefixes() []netip.Prefix {
	var all []netip.Prefix
	for _, a := range p.addresses() {
		all = append(all, a.Prefix)
	}
	return all
}

// compare tells whether the runtime's result still has the interface, if the attachment
// has one of its own: what this has is compared with the container ([previous.expected]).
// Of others it has the record's addresses.
func (p *previous) compare(a *attach.Attachment, own bool) error {
	switch {
	case p.result == nil || own && p.chained():
		return nil
	case own:
		return fmt.Errorf("prevResult has no interface %s in %s", a.IfName, a.Netns)
	}
	have := p.prefixes()
	for _, addr := range a.Addresses {
		if !slices.Contains(have, addr.Prefix) {
			return fmt.Errorf("prevResult lacks the address %s", addr.Prefix)
		}
	}
	return nil
}

// expected is what the result says of the request's interface; nil without a result, for
// what the record says. Routes by a link-local gateway are by the host's end, which a
// reload may have made anew since: of these the record knows.
func (p *previous) expected(a *attach.Attachment) *link.Expected {
	if !p.chained() {
		return nil
	}
	e := &link.Expected{Up: true, Addresses: p.prefixes()}
	if mac, err := link.ParseMAC(p.result.Interfaces[p.index].Mac); err == nil {
		e.MAC = mac
	}
	for _, r := range p.result.Routes {
		gw, _ := netip.AddrFromSlice(r.GW)
		route := attach.Route{Dst: fromIPNet(r.Dst).Masked(), Gateway: gw.Unmap()}
		for _, own := range a.Routes {
			if own.Dst == route.Dst && own.Gateway.IsLinkLocalUnicast() && gw.IsLinkLocalUnicast() {
				route.Gateway = own.Gateway
			}
		}
		e.Routes = append(e.Routes, route)
	}
	return e
}

// The CNI library's types are those of package net.

func toIPNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func toIP(a netip.Addr) net.IP {
	if !a.IsValid() {
		return nil
	}
	return a.AsSlice()
}

func fromIPNet(n net.IPNet) netip.Prefix {
	addr, _ := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones)
}
