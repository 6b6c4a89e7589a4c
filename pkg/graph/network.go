package graph

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/ipvlan"
	"github.com/berth-cni/berth/pkg/link/macvlan"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/link/parent"
)

// sharePlugin is the mode whose containers are in another one's namespace.
const sharePlugin = "container-share"

// network is what is known of one, from records, the host's memory and the overlay.
type network struct {
	name, plugin string
	way          Way
	records      []*attach.Attachment
	bridge       string
	grouped      bool   // containers are on no bridge: the host routes to each
	parent       string // macvlan's, on the host
	carrier      string // what parent is a VLAN of; else parent
	subnets      []netip.Prefix
	internal     bool
	words        []string // that tell more of it
	overlay      *Overlay
}

// networks are all of them: those that the host routes first, then macvlan, then
// those that are none.
func (b *builder) networks() []*network {
	by := map[string]*network{}
	get := func(name string) *network {
		if by[name] == nil {
			by[name] = &network{name: name}
		}
		return by[name]
	}
	for _, k := range b.Networks {
		n := get(k.Name)
		n.plugin, n.subnets = k.Plugin, k.Subnets
		n.set(k.Settings)
		if k.Plugin == "macvlan" || k.Plugin == "ipvlan" {
			n.parent, n.carrier, n.way = k.Link, k.Link, Child
		} else {
			n.bridge, n.way = k.Link, Veth
		}
	}
	for i := range b.Overlays {
		o := &b.Overlays[i]
		n := get(o.Name)
		n.plugin, n.overlay, n.bridge, n.internal, n.way = "vxlan-overlay", o, o.Bridge, o.Internal, Veth
	}
	seen := map[attach.Key]int{} // where in its network's records: one for each interface
	for _, a := range b.sorted(b.Records) {
		n := get(a.Network)
		key := a.Key
		key.Role = attach.Main
		i, again := seen[key]
		switch {
		case !again:
			seen[key] = len(n.records)
			n.records = append(n.records, a)
		case a.Role == attach.Main:
			n.records[i] = a
		}
		n.learn(a)
	}
	var all []*network
	for _, n := range by {
		all = append(all, n)
	}
	slices.SortFunc(all, func(x, y *network) int {
		return cmp.Or(cmp.Compare(x.rank(), y.rank()), host.Natural(x.name, y.name))
	})
	return all
}

func (n *network) rank() int { return slices.Index([]Way{Veth, Child, Shares, Without}, n.way) }

// onParent has the network be on an interface of the host, or of each container.
func (n *network) onParent(name string, inside bool) {
	n.way = Child
	if inside {
		n.say("parent " + name + " of the container")
		n.parent, n.carrier = "", ""
	} else {
		n.parent, n.carrier = name, cmp.Or(n.carrier, name)
	}
}

// learn takes from a record what the network is.
func (n *network) learn(a *attach.Attachment) {
	n.plugin = cmp.Or(n.plugin, a.Plugin)
	if n.way == "" {
		n.way = Without
	}
	for _, s := range a.Steps {
		switch s := s.(type) {
		case *link.Veth:
			n.bridge, n.way = s.Bridge, Veth
		case *link.Routed:
			n.way, n.grouped = Veth, true
		case *macvlan.Interface:
			n.say("mode " + s.Mode)
			n.onParent(s.Master, s.Inside)
		case *ipvlan.Interface:
			n.say("mode " + s.Mode)
			if s.Flag != "bridge" {
				n.say(s.Flag)
			}
			n.onParent(s.Master, s.Inside)
		case *parent.Subinterface:
			n.carrier = s.Parent
		case *netns.Rebind:
			n.way = Shares
		case *firewall.Rules:
			if s.Group == 0 {
				n.bridge = cmp.Or(n.bridge, s.Bridge)
			}
			n.internal = n.internal || s.Internal
			for _, word := range []struct {
				on   bool
				word string
			}{{s.Isolate, "isolated"}, {s.NoICC, "no icc"}} {
				if word.on {
					n.say(word.word)
				}
			}
			for _, word := range firewall.ModeWords(s.Mode4, s.Mode6) {
				n.say("gateway " + word)
			}
		}
	}
	if n.way == Without && a.Role != attach.Main {
		n.way = Veth // another plugin's interface
	}
}

// set takes from the settings that the host remembers what the network is.
func (n *network) set(settings []string) {
	for _, word := range settings {
		switch word {
		case "internal":
			n.internal = true
		case "isolate":
			n.say("isolated")
		case "noicc":
			n.say("no icc")
		default: // one of [firewall.ModeWords], or of an earlier version
			if _, mode, both := strings.Cut(word, "="); both && firewall.IsGatewayMode(mode) || firewall.IsGatewayMode(word) {
				n.say("gateway " + word)
			}
		}
	}
}

// say adds a word, once.
func (n *network) say(word string) {
	if !slices.Contains(n.words, word) {
		n.words = append(n.words, word)
	}
}

// network adds a network's node, and its lines to the outside.
func (b *builder) network(n *network) {
	node := Node{ID: NetworkID(n.name), Kind: Network, Title: clean(n.name), Note: clean(n.plugin)}
	if n.plugin == n.name {
		node.Note = ""
	}
	b.sharing[node.ID] = n.plugin == sharePlugin
	switch n.way {
	case Veth:
		b.bridge(n, &node)
	case Child:
		b.parent(n, &node)
	case Shares:
		if n.plugin != sharePlugin {
			node.Facts = append(node.Facts, "the host's namespace")
		}
	case Without:
		node.Facts = append(node.Facts, "lo only")
	}
	if n.internal {
		node.Facts = append(node.Facts, "internal")
	}
	node.Facts = append(node.Facts, n.words...)
	b.node(node)
	switch {
	case n.carrier != "" && b.uplinks[n.carrier]:
		b.edge(Edge{From: uplinkID(n.carrier), To: node.ID, Way: Child, Label: n.parent})
	case b.first == "" || n.internal:
	case n.way == Veth && len(node.Facts) > 0 && n.routed(b), n.way == Shares && n.plugin != sharePlugin:
		b.edge(Edge{From: uplinkID(b.first), To: node.ID, Way: Routed})
	}
	if n.overlay != nil {
		if d, ok := b.Kernel.Device(n.overlay.Underlay); ok {
			b.uplink(d)
		}
		b.tunnels(n.overlay, node.ID)
	}
}

// routed tells whether the host has an address on the network.
func (n *network) routed(b *builder) bool {
	d, ok := b.Kernel.Device(n.bridge)
	return len(n.subnets) > 0 || ok && len(d.Addresses) > 0
}

func (b *builder) bridge(n *network, node *Node) {
	d, ok := b.Kernel.Device(n.bridge)
	switch {
	case n.grouped && !ok:
		node.Facts = append(node.Facts, "routed, without a bridge")
	case n.bridge == "":
		return
	case !ok && len(n.records) == 0:
		node.Facts = append(node.Facts, n.bridge+", not made yet")
	case !ok:
		node.Bad = append(node.Bad, "bridge "+n.bridge+" is missing")
	case !d.Up:
		node.Bad = append(node.Bad, "bridge "+n.bridge+" is down")
	}
	if ok {
		node.Facts = append(node.Facts, fmt.Sprintf("%s  mtu %d", n.bridge, d.MTU))
	}
	for _, p := range d.Addresses {
		node.Facts = append(node.Facts, p.Masked().String(), "gateway "+p.Addr().String())
	}
	if len(d.Addresses) == 0 {
		for _, p := range n.subnets {
			node.Facts = append(node.Facts, p.String())
		}
	}
	if o := n.overlay; o != nil {
		node.Facts = append(node.Facts, fmt.Sprintf("%s  UDP %d", o.Device, o.Port))
		if d, ok := b.Kernel.Device(o.Device); !ok {
			node.Bad = append(node.Bad, o.Device+" is missing")
		} else if !d.Up {
			node.Bad = append(node.Bad, o.Device+" is down")
		}
		if o.Problem != "" {
			node.Bad = append(node.Bad, clean(o.Problem))
		}
	}
}

func (b *builder) parent(n *network, node *Node) {
	if n.parent == "" {
		return
	}
	node.Facts = append(node.Facts, "on "+n.parent)
	d, ok := b.Kernel.Device(n.parent)
	switch {
	case !ok && len(n.records) > 0:
		node.Bad = append(node.Bad, n.parent+" is missing")
	case ok && !d.Up:
		node.Bad = append(node.Bad, n.parent+" is down")
	}
	if carrier, ok := b.Kernel.Device(n.carrier); ok {
		b.uplink(carrier)
	}
}

// tunnels adds the other hosts of an overlay network.
func (b *builder) tunnels(o *Overlay, id string) {
	for _, p := range o.Peers {
		peer := "peer:" + p.Name
		if b.Graph.node(peer) == nil {
			b.node(Node{ID: peer, Kind: Peer, Title: clean(p.Name), Note: p.Address.String()})
		}
		e := Edge{From: peer, To: id, Way: Tunnel, Label: o.Device}
		for _, block := range p.Blocks {
			e.Addresses = append(e.Addresses, block.String())
		}
		if p.Bad {
			e.Bad = append(e.Bad, clean(p.Reach))
		} else {
			e.Reach = clean(p.Reach)
		}
		b.edge(e)
	}
}

// hostPort is a published port of the host.
func hostPort(p attach.Port) string {
	if p.HostIP.IsValid() && !p.HostIP.IsUnspecified() {
		return netip.AddrPortFrom(p.HostIP, p.HostPort).String()
	}
	return strconv.Itoa(int(p.HostPort))
}
