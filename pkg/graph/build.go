package graph

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/netns"
)

// Build makes the picture of a host.
func Build(in Input) *Graph {
	b := &builder{Input: in, containers: map[string]bool{}, uplinks: map[string]bool{}, sharing: map[string]bool{}}
	b.node(Node{ID: HostID, Kind: Host, Title: clean(in.Host)})
	if d, ok := in.Kernel.Uplink(); ok {
		b.uplink(d)
	}
	all := b.networks()
	for _, n := range all {
		b.network(n)
	}
	for _, n := range all {
		for _, a := range n.records {
			b.attachment(n, a)
		}
		b.foreign(n)
	}
	b.shares()
	b.outside()
	return &b.Graph
}

// builder is a picture in the making.
type builder struct {
	Input
	Graph
	containers map[string]bool // whose node is there
	uplinks    map[string]bool
	sharing    map[string]bool // networks of sharePlugin
	first      string          // the uplink of the default route
	ports      []string        // published on this host
}

func (b *builder) node(n Node) { b.Nodes = append(b.Nodes, n) }
func (b *builder) edge(e Edge) { b.Edges = append(b.Edges, e) }
func uplinkID(s string) string { return "uplink:" + s }

// clean is a text that people chose, without what a terminal or a reader would not
// show as it is.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// uplink adds an interface that leads outside.
func (b *builder) uplink(d Device) {
	if b.uplinks[d.Name] {
		return
	}
	b.uplinks[d.Name] = true
	b.first = cmp.Or(b.first, d.Name)
	n := Node{ID: uplinkID(d.Name), Kind: Uplink, Title: d.Name}
	for _, p := range d.Addresses {
		n.Facts = append(n.Facts, p.String())
	}
	for _, gw := range d.Gateways {
		n.Facts = append(n.Facts, "gateway "+gw.String())
	}
	if !d.Up {
		n.Bad = append(n.Bad, "is down")
	}
	b.node(n)
}

// outside adds what the uplinks lead to, and the ports by which one comes in.
func (b *builder) outside() {
	up := b.of(Uplink)
	if len(up) == 0 {
		return
	}
	n := Node{ID: "outside", Kind: Outside, Title: "outside", Ports: b.ports}
	for _, u := range up {
		b.edge(Edge{From: n.ID, To: u.ID, Way: Routed})
	}
	b.node(n)
}

// attachment adds a container's line to its network, and the container when it is its
// first one.
func (b *builder) attachment(n *network, a *attach.Attachment) {
	if rebind := step[*netns.Rebind](a); rebind != nil && rebind.From != "" {
		return // see shares
	}
	e := Edge{From: NetworkID(n.name), To: ContainerID(a.Container), Way: n.way, Interface: a.IfName}
	switch {
	case n.way == Without:
		e.Interface = "lo"
	case n.way == Shares:
		e.Interface = ""
	case link.HasVeth(a):
		e.Label = a.HostIfName()
		if d, ok := b.Kernel.Device(e.Label); !ok {
			e.Bad = append(e.Bad, e.Label+" is missing")
		} else if !d.Up {
			e.Bad = append(e.Bad, e.Label+" is down")
		}
	}
	if n.way != Shares && n.way != Without {
		for _, addr := range a.Addresses {
			e.Addresses = append(e.Addresses, addr.Prefix.Addr().String())
		}
	}
	name := b.container(a)
	_, others := b.Called(a)
	for _, other := range others {
		if other != name && other != attach.ShortID(a.Container) {
			e.Names = append(e.Names, clean(other))
		}
	}
	c := b.Graph.node(e.To)
	for _, p := range a.Ports {
		e.Ports = append(e.Ports, fmt.Sprintf("%s → %d/%s", hostPort(p), p.ContainerPort, p.Protocol))
		b.ports = append(b.ports, fmt.Sprintf("%s/%s → %s", hostPort(p), p.Protocol, c.Title))
	}
	c.Ports = append(c.Ports, e.Ports...)
	b.edge(e)
}

// foreign adds the ports of a network's bridge that are nobody's: those of no record, but for
// the VXLAN device.
func (b *builder) foreign(n *network) {
	if n.bridge == "" {
		return
	}
	own := map[string]bool{}
	for _, a := range n.records {
		own[a.HostIfName()] = true
	}
	if n.overlay != nil {
		own[n.overlay.Device] = true
	}
	for _, d := range b.Kernel.Ports(n.bridge) {
		if own[d.Name] {
			continue
		}
		id := "port:" + d.Name
		b.node(Node{ID: id, Kind: Foreign, Title: clean(d.Name), Note: "not ours"})
		b.edge(Edge{From: NetworkID(n.name), To: id, Way: Port})
	}
}

// container adds the node of a record's container, once, and returns what people call
// it.
func (b *builder) container(a *attach.Attachment) string {
	name, _ := b.Called(a)
	if b.containers[a.Container] {
		return name
	}
	b.containers[a.Container] = true
	n := Node{ID: ContainerID(a.Container), Kind: Container, Title: clean(name)}
	if id := attach.ShortID(a.Container); id != name {
		n.Note = id
	}
	if why := b.Kernel.Netns(a); why != "" {
		n.Bad = append(n.Bad, why)
	}
	if a.Deleting {
		n.Bad = append(n.Bad, "is being removed")
	}
	b.node(n)
	return name
}

// shares adds the containers in another one's namespace.
func (b *builder) shares() {
	for _, a := range b.sorted(b.Records) {
		rebind := step[*netns.Rebind](a)
		if rebind == nil || rebind.From == "" || b.containers[a.Container] {
			continue
		}
		b.container(a)
		e := Edge{From: ContainerID(rebind.Owner.Container), To: ContainerID(a.Container), Way: Shares}
		if !b.containers[rebind.Owner.Container] {
			e.From = NetworkID(a.Network)
			b.Graph.node(e.To).Facts = append(b.Graph.node(e.To).Facts, "shares "+clean(rebind.From))
			if rebind.Owner != (attach.Key{}) {
				e.Bad = append(e.Bad, "the owner of the namespace is gone")
			}
		}
		b.edge(e)
	}
	// A network of sharers alone is no box of the picture.
	b.Nodes = slices.DeleteFunc(b.Nodes, func(n Node) bool {
		return n.Kind == Network && b.sharing[n.ID] && !slices.ContainsFunc(b.Edges, func(e Edge) bool { return e.From == n.ID })
	})
}

// sorted are records in the order of what the containers are called.
func (b *builder) sorted(all []*attach.Attachment) []*attach.Attachment {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(x, y *attach.Attachment) int {
		mine, _ := b.Called(x)
		theirs, _ := b.Called(y)
		return cmp.Or(host.Natural(mine, theirs), cmp.Compare(x.Container, y.Container), cmp.Compare(x.IfName, y.IfName))
	})
	return all
}

// step returns a record's step of a type; nil when it has none.
func step[S attach.Step](a *attach.Attachment) S {
	for _, s := range a.Steps {
		if found, ok := s.(S); ok {
			return found
		}
	}
	var none S
	return none
}
