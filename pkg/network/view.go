package network

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/inspect"
	"github.com/berth-cni/berth/pkg/overlay"
)

// Scopes of networks, in Docker's words.
const (
	ScopeLocal  = "local"  // of this host
	ScopeGlobal = "global" // spans hosts
)

// View is a network of this host as it is shown.
type View struct {
	Name       string         `json:"name"`
	Driver     string         `json:"driver"`
	Scope      string         `json:"scope"`
	Predefined bool           `json:"predefined,omitempty"`
	Berth      bool           `json:"berth"` // made by this program
	File       string         `json:"file,omitempty"`
	Versions   []string       `json:"cniVersions,omitempty"`
	Created    time.Time      `json:"created,omitzero"`
	Link       string         `json:"link,omitempty"` // the bridge, or the parent of macvlan and ipvlan
	Subnets    []netip.Prefix `json:"subnets,omitempty"`
	Ranges     []Range        `json:"ranges,omitempty"`
	MTU        int            `json:"mtu,omitempty"`
	Internal   bool           `json:"internal,omitempty"`
	Isolate    bool           `json:"isolate,omitempty"`
	NoICC      bool           `json:"noicc,omitempty"`
	Names      bool           `json:"names,omitempty"`

	GatewayModeIPv4 firewall.GatewayMode `json:"gatewayModeIPv4,omitempty"`
	GatewayModeIPv6 firewall.GatewayMode `json:"gatewayModeIPv6,omitempty"`
	IPSpoofCheck    bool                 `json:"ipspoofchk,omitempty"`

	Chain      []string             `json:"chain,omitempty"` // plugins behind the first
	Labels     map[string]string    `json:"labels,omitempty"`
	Containers []inspect.Attachment `json:"containers,omitempty"`

	mode, flag, sticky string
	id                 string // as Docker has one
}

// Range is a subnet with what of it is given out.
type Range struct {
	Subnet  netip.Prefix          `json:"subnet"`
	Gateway netip.Addr            `json:"gateway,omitzero"`
	Start   netip.Addr            `json:"rangeStart,omitzero"`
	End     netip.Addr            `json:"rangeEnd,omitzero"`
	Aux     map[string]netip.Addr `json:"auxAddresses,omitempty"`
	Used    int                   `json:"used"` // addresses that containers have
}

// View is a network of a file as it is shown.
func (n *Networks) View(f *conflist.File) *View {
	c := &f.Plugins[0].Conf
	v := &View{
		Name: f.Name, Driver: f.Driver(), Scope: ScopeLocal, Predefined: conflist.Predefined(f.Name), Berth: f.Mark != nil,
		File: f.Path, Versions: f.Versions, Link: f.Link(), MTU: c.MTU, Internal: c.Internal, Isolate: c.Isolate, NoICC: c.NoICC(),
		Names: c.Names, GatewayModeIPv4: c.GatewayModeIPv4, GatewayModeIPv6: c.GatewayModeIPv6, IPSpoofCheck: c.IPSpoofCheck, Containers: n.ContainersOn(f.Name), mode: c.Mode, flag: c.Flag,
	}
	if c.IPAM != nil {
		v.sticky = c.IPAM.Sticky
	}
	for _, other := range f.Plugins[1:] {
		v.Chain = append(v.Chain, other.Type)
	}
	var aux map[string]netip.Addr
	if f.Mark != nil {
		v.Created, v.Labels, aux = f.Mark.Created, f.Mark.Labels, f.Mark.Aux
	}
	for _, r := range c.Subnets() {
		v.addRange(r, aux, n)
	}
	v.id = networkID(v.Name)
	switch {
	case v.Driver == conflist.Overlay:
		v.addOverlay(n.host.DataDir)
	case !v.Created.IsZero():
		v.id = networkID(v.Name, v.Created.Format(time.RFC3339))
	}
	return v
}

func (v *View) addRange(r conflist.Range, aux map[string]netip.Addr, n *Networks) {
	view := Range{Subnet: r.Subnet, Gateway: r.Gateway, Start: r.Start, End: r.End}
	for name, a := range aux {
		if r.Subnet.Contains(a) {
			if view.Aux == nil {
				view.Aux = map[string]netip.Addr{}
			}
			view.Aux[name] = a
		}
	}
	for _, a := range n.On(v.Name) {
		view.Used += count(a.Addresses, func(addr attach.Address) bool {
			return a.Role != attach.Chained && r.Subnet.Contains(addr.Prefix.Addr())
		})
	}
	v.Subnets = append(v.Subnets, r.Subnet)
	v.Ranges = append(v.Ranges, view)
}

// addOverlay tells of an overlay network what this host remembers of it.
func (v *View) addOverlay(dataDir string) {
	if dataDir == "" {
		dataDir = overlay.DataDir()
	}
	v.Scope = ScopeGlobal
	if local, err := overlay.ReadLocal(dataDir, v.Name); err == nil {
		v.Subnets, v.Link, v.MTU, v.Created = local.Network.Subnets, local.Network.Bridge(), local.MTU, local.Network.Created
		v.id = networkID(v.Name, local.Network.ID)
	}
}

func count[T any](all []T, fits func(T) bool) (n int) {
	for _, v := range all {
		if fits(v) {
			n++
		}
	}
	return n
}

// Options are the words that the network was made with.
func (v *View) Options() []string {
	all := v.modes()
	for _, o := range []struct {
		word string
		on   bool
	}{
		{"internal", v.Internal}, {"isolate", v.Isolate}, {"names", v.Names}, {"no-icc", v.NoICC},
		{"mode=" + v.mode, v.mode != ""}, {"flag=" + v.flag, v.flag != ""}, {"sticky=" + v.sticky, v.sticky != ""}, {fmt.Sprintf("mtu=%d", v.MTU), v.MTU != 0},
		{"chain=" + strings.Join(v.Chain, "+"), len(v.Chain) > 0}, {"predefined", v.Predefined},
	} {
		if o.on {
			all = append(all, o.word)
		}
	}
	return all
}

// modes are the words of the gateway modes: of the families that the network has.
func (v *View) modes() []string {
	v4, v6 := v.GatewayModeIPv4, v.GatewayModeIPv6
	is6 := func(p netip.Prefix) bool { return p.Addr().Is6() }
	switch n := count(v.Subnets, is6); {
	case len(v.Subnets) == 0:
	case n == 0:
		v6 = v4
	case n == len(v.Subnets):
		v4 = v6
	}
	return firewall.ModeWords(v4, v6)
}

// ContainersOn are the attachments to a network as they are shown.
func (n *Networks) ContainersOn(network string) []inspect.Attachment {
	return inspect.Attachments(n.On(network), func(*inspect.Attachment) bool { return true }, nil, n.host.Now())
}

// Predefined is the view of a network that is there without a file: host, none.
func (n *Networks) Predefined(name string) *View {
	return &View{Name: name, Driver: name, Scope: ScopeLocal, Predefined: true, Containers: n.ContainersOn(name), id: networkID(name)}
}
