package main

import (
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/inspect"
	"github.com/berth-cni/berth/pkg/overlay"
)

// Scopes of networks.
const (
	scopeHost  = "host"
	scopeHosts = "hosts"
)

// hostNetworkView is a network of this host as it is shown.
type hostNetworkView struct {
	Name       string               `json:"name"`
	Driver     string               `json:"driver"`
	Scope      string               `json:"scope"`
	Predefined bool                 `json:"predefined,omitempty"`
	Berth      bool                 `json:"berth"` // made by this program
	File       string               `json:"file,omitempty"`
	Versions   []string             `json:"cniVersions,omitempty"`
	Created    time.Time            `json:"created,omitzero"`
	Link       string               `json:"link,omitempty"` // the bridge, or macvlan's parent
	Subnets    []netip.Prefix       `json:"subnets,omitempty"`
	Ranges     []rangeView          `json:"ranges,omitempty"`
	MTU        int                  `json:"mtu,omitempty"`
	Internal   bool                 `json:"internal,omitempty"`
	Isolate    bool                 `json:"isolate,omitempty"`
	NoICC      bool                 `json:"noicc,omitempty"`
	Names      bool                 `json:"names,omitempty"`
	Chain      []string             `json:"chain,omitempty"` // plugins behind the first
	Labels     map[string]string    `json:"labels,omitempty"`
	Containers []inspect.Attachment `json:"containers,omitempty"`

	mode string
}

// rangeView is a subnet with what of it is given out.
type rangeView struct {
	Subnet  netip.Prefix          `json:"subnet"`
	Gateway netip.Addr            `json:"gateway,omitzero"`
	Start   netip.Addr            `json:"rangeStart,omitzero"`
	End     netip.Addr            `json:"rangeEnd,omitzero"`
	Aux     map[string]netip.Addr `json:"auxAddresses,omitempty"`
	Used    int                   `json:"used"` // addresses that containers have
}

func (p *program) hostNetworkView(n *networks, f *conflist.File) *hostNetworkView {
	c := &f.Plugins[0].Conf
	v := &hostNetworkView{
		Name: f.Name, Driver: f.Driver(), Scope: scopeHost, Predefined: conflist.Predefined(f.Name), Berth: f.Mark != nil,
		File: f.Path, Versions: f.Versions, Link: f.Link(), MTU: c.MTU, Internal: c.Internal, Isolate: c.Isolate, NoICC: c.NoICC(),
		Names: c.Names, Containers: p.containersOn(n, f.Name), mode: c.Mode,
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
	if v.Driver == driverOverlay {
		v.addOverlay(p.settings.dataDir)
	}
	return v
}

func (v *hostNetworkView) addRange(r conflist.Range, aux map[string]netip.Addr, n *networks) {
	view := rangeView{Subnet: r.Subnet, Gateway: r.Gateway, Start: r.Start, End: r.End}
	for name, a := range aux {
		if r.Subnet.Contains(a) {
			if view.Aux == nil {
				view.Aux = map[string]netip.Addr{}
			}
			view.Aux[name] = a
		}
	}
	for _, a := range n.on(v.Name) {
		view.Used += count(a.Addresses, func(addr attach.Address) bool {
			return a.Role != attach.Chained && r.Subnet.Contains(addr.Prefix.Addr())
		})
	}
	v.Subnets = append(v.Subnets, r.Subnet)
	v.Ranges = append(v.Ranges, view)
}

// addOverlay tells of an overlay network what this host remembers of it.
func (v *hostNetworkView) addOverlay(dataDir string) {
	if dataDir == "" {
		dataDir = overlay.DataDir()
	}
	v.Scope = scopeHosts
	if local, err := overlay.ReadLocal(dataDir, v.Name); err == nil {
		v.Subnets, v.Link, v.MTU, v.Created = local.Network.Subnets, local.Network.Bridge(), local.MTU, local.Network.Created
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

func (v *hostNetworkView) line() *networkLine {
	l := &networkLine{name: v.Name, driver: v.Driver, on: orDash(v.Link), options: v.options(), labels: v.Labels,
		containers: containers(v.Containers), predefined: v.Predefined, berth: v.Berth}
	for _, s := range v.Subnets {
		l.subnets = append(l.subnets, s.String())
	}
	return l
}

// containers counts those of attachments.
func containers(all []inspect.Attachment) int {
	ids := map[string]bool{}
	for _, a := range all {
		ids[a.Container] = true
	}
	return len(ids)
}

// options are the words that the network was made with.
func (v *hostNetworkView) options() []string {
	var all []string
	for _, o := range []struct {
		word string
		on   bool
	}{
		{"internal", v.Internal}, {"isolate", v.Isolate}, {"names", v.Names}, {"no-icc", v.NoICC},
		{"mode=" + v.mode, v.mode != ""}, {fmt.Sprintf("mtu=%d", v.MTU), v.MTU != 0},
		{"chain=" + strings.Join(v.Chain, "+"), len(v.Chain) > 0}, {"predefined", v.Predefined},
	} {
		if o.on {
			all = append(all, o.word)
		}
	}
	return all
}

func (v *hostNetworkView) table(w io.Writer) {
	row(w, "name:", v.Name)
	row(w, "driver:", v.Driver)
	if v.File != "" {
		row(w, "file:", host.Printable(v.File))
	}
	if !v.Created.IsZero() {
		row(w, "created:", stamp(v.Created))
	}
	if v.Link != "" {
		row(w, "on:", v.Link)
	}
	for _, r := range v.Ranges {
		text := r.Subnet.String()
		if r.Gateway.IsValid() {
			text += ", gateway " + r.Gateway.String()
		}
		if r.Start.IsValid() || r.End.IsValid() {
			text += fmt.Sprintf(", range %s-%s", r.Start, r.End)
		}
		row(w, "subnet:", text+fmt.Sprintf(", %d used", r.Used))
		for _, name := range slices.Sorted(maps.Keys(r.Aux)) {
			row(w, "reserved:", host.Printable(name)+" "+r.Aux[name].String())
		}
	}
	row(w, "options:", list(v.options()))
	for _, key := range slices.Sorted(maps.Keys(v.Labels)) {
		row(w, "label:", host.Printable(key+"="+v.Labels[key]))
	}
	containerTable(w, v.Containers)
}

// containerTable are the containers of a network, if it has some.
func containerTable(w io.Writer, all []inspect.Attachment) {
	if len(all) == 0 {
		return
	}
	row(w, "")
	row(w, "CONTAINER", "INTERFACE", "ADDRESSES", "PORTS", "NAMES", "AGE")
	for _, a := range all {
		cells := cells(&a, false)
		row(w, append(cells[:1:1], cells[2:]...)...)
	}
}
