package conflist

import (
	"encoding/json"
	"net/netip"

	"github.com/berth-cni/berth/pkg/firewall"
)

// Conf is the part of a plugin's configuration that this package writes and shows. Its
// keys are those of our plugins.
type Conf struct {
	Type   string `json:"type"`
	Bridge string `json:"bridge,omitempty"`
	Master string `json:"master,omitempty"`
	Mode   string `json:"mode,omitempty"`
	Flag   string `json:"flag,omitempty"`
	MTU    int    `json:"mtu,omitempty"` // bytes

	IsGateway        bool   `json:"isGateway,omitempty"`
	IsDefaultGateway bool   `json:"isDefaultGateway,omitempty"`
	IPMasq           *bool  `json:"ipMasq,omitempty"`
	Internal         bool   `json:"internal,omitempty"`
	Isolate          bool   `json:"isolate,omitempty"`
	ICC              *bool  `json:"icc,omitempty"` // nil: true
	Names            bool   `json:"names,omitempty"`
	FirewallBackend  string `json:"firewallBackend,omitempty"`
	IPMasqBackend    string `json:"ipMasqBackend,omitempty"`

	GatewayModeIPv4 firewall.GatewayMode `json:"gatewayModeIPv4,omitempty"`
	GatewayModeIPv6 firewall.GatewayMode `json:"gatewayModeIPv6,omitempty"`

	HostBindingIPv4 string `json:"hostBindingIPv4,omitempty"`

	ForceAddress    bool `json:"forceAddress,omitempty"`
	HairpinMode     bool `json:"hairpinMode,omitempty"`
	PromiscMode     bool `json:"promiscMode,omitempty"`
	PortIsolation   bool `json:"portIsolation,omitempty"`
	MACSpoofCheck   bool `json:"macspoofchk,omitempty"`
	IPSpoofCheck    bool `json:"ipspoofchk,omitempty"`
	AcceptRA        bool `json:"acceptRA,omitempty"`
	EnableDAD       bool `json:"enabledad,omitempty"`
	VLAN            int  `json:"vlan,omitempty"`
	HostShim        bool `json:"hostShim,omitempty"`
	LinkInContainer bool `json:"linkInContainer,omitempty"`
	BcQueueLen      int  `json:"bcqueuelen,omitempty"`

	DNS          *DNS            `json:"dns,omitempty"`
	IPAM         *IPAM           `json:"ipam,omitempty"`
	Capabilities map[string]bool `json:"capabilities,omitempty"`
}

// DNS are the servers that the network's containers have their questions sent to.
type DNS struct {
	Nameservers []string `json:"nameservers,omitempty"`
}

// NoICC tells that containers of the network cannot talk to each other.
func (c *Conf) NoICC() bool { return c.ICC != nil && !*c.ICC }

// IPAM is the built-in one's section; what others have in the same place is read, too.
type IPAM struct {
	Type   string    `json:"type,omitempty"`
	Ranges [][]Range `json:"ranges,omitempty"`
	Routes []Route   `json:"routes,omitempty"`
	Sticky string    `json:"sticky,omitempty"`

	first  Range       // beside type, as host-local has it
	static []fixedAddr // of the plugin static
}

// Route is a route of the containers, through their gateway.
type Route struct {
	Dst netip.Prefix `json:"dst"`
}

type fixedAddr struct {
	Address netip.Prefix `json:"address"`
}

// Range is a subnet and the part of it that is given out.
type Range struct {
	Subnet  netip.Prefix `json:"subnet"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
	Start   netip.Addr   `json:"rangeStart,omitzero"`
	End     netip.Addr   `json:"rangeEnd,omitzero"`
	Exclude []string     `json:"exclude,omitempty"`
}

// UnmarshalJSON takes what it can: of a plugin that it does not know, a key may mean
// anything.
func (i *IPAM) UnmarshalJSON(data []byte) error {
	var kind struct {
		Type string `json:"type"`
	}
	var ranges struct {
		Ranges [][]Range `json:"ranges"`
	}
	var sticky struct {
		Sticky string `json:"sticky"`
	}
	var static struct {
		Addresses []fixedAddr `json:"addresses"`
	}
	_ = json.Unmarshal(data, &kind)
	_ = json.Unmarshal(data, &ranges)
	_ = json.Unmarshal(data, &static)
	_ = json.Unmarshal(data, &sticky)
	_ = json.Unmarshal(data, &i.first)
	i.Type, i.Ranges, i.Sticky, i.static = kind.Type, ranges.Ranges, sticky.Sticky, static.Addresses
	return nil
}

// all are the ranges, in the order in which the plugins read them.
func (i *IPAM) all() []Range {
	if i == nil {
		return nil
	}
	var all []Range
	add := func(r Range) {
		if r.Subnet.IsValid() {
			r.Subnet = r.Subnet.Masked()
			all = append(all, r)
		}
	}
	add(i.first)
	for _, set := range i.Ranges {
		for _, r := range set {
			add(r)
		}
	}
	for _, f := range i.static {
		add(Range{Subnet: f.Address})
	}
	return all
}

// Subnets are the ranges of a plugin's addresses.
func (c *Conf) Subnets() []Range { return c.IPAM.all() }

// span is the first and the last address that are given out.
func (r Range) span() (from, to netip.Addr) {
	from, to = r.Start, r.End
	if !from.IsValid() {
		from = r.Subnet.Addr()
	}
	if !to.IsValid() {
		to = last(r.Subnet)
	}
	return from, to
}

// last is the highest address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := range b {
		if rest := p.Bits() - i*8; rest < 8 {
			b[i] |= 0xff >> max(0, rest)
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
