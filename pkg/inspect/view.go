package inspect

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall/ruleset"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/overlay"
)

// What [Container.Kind] and [Network.Kind] say.
const (
	KindContainer = "container"
	KindNetwork   = "network"
)

// Container is a container with all of its attachments.
type Container struct {
	Kind        string   `json:"kind"`
	Name        string   `json:"name"`
	Container   string   `json:"container"`
	Attachments []Detail `json:"attachments"`
}

// Detail is everything of one attachment.
type Detail struct {
	Attachment
	Record *attach.Attachment `json:"record"` // with its steps
	// HostEnd is the host's end of the interface; null where there is none.
	HostEnd       *Link             `json:"hostEnd"`
	Firewall      []ruleset.Element `json:"firewall"`
	FirewallError string            `json:"firewallError,omitempty"` // why the elements are not known
	Check         Check             `json:"check"`
}

// Check is what [attach.Check] says.
type Check struct {
	OK       bool     `json:"ok"`
	Problems []string `json:"problems,omitempty"`
}

// Link is an interface of the host.
type Link struct {
	Name     string   `json:"name"`
	Index    int      `json:"index"`
	MTU      int      `json:"mtu"` // bytes
	Up       bool     `json:"up"`
	Master   string   `json:"master,omitempty"` // the bridge that it is a port of
	Counters Counters `json:"counters"`
}

// Counters count since the interface was made. What the host's end of a pair receives,
// its container has sent.
type Counters struct {
	ReceivedBytes   uint64 `json:"receivedBytes"`
	ReceivedPackets uint64 `json:"receivedPackets"`
	ReceivedErrors  uint64 `json:"receivedErrors"`
	ReceivedDropped uint64 `json:"receivedDropped"`
	SentBytes       uint64 `json:"sentBytes"`
	SentPackets     uint64 `json:"sentPackets"`
	SentErrors      uint64 `json:"sentErrors"`
	SentDropped     uint64 `json:"sentDropped"`
}

// ReadCounters reads those of all interfaces of the calling thread's namespace, by their
// names: one file (proc_pid_net(5), dev).
func ReadCounters() (map[string]Counters, error) {
	data, err := os.ReadFile("/proc/thread-self/net/dev")
	if err != nil {
		return nil, err
	}
	all := map[string]Counters{}
	for line := range strings.Lines(string(data)) {
		name, rest, ok := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if !ok || len(fields) < 12 {
			continue // the two lines on top
		}
		n := func(i int) uint64 {
			v, _ := strconv.ParseUint(fields[i], 10, 64)
			return v
		}
		all[strings.TrimSpace(name)] = Counters{n(0), n(1), n(2), n(3), n(8), n(9), n(10), n(11)}
	}
	return all, nil
}

// link is an interface of the host; nil when there is none.
func (h *Host) link(name string) *Link {
	l, ok := h.links[name]
	if !ok {
		return nil
	}
	v := &Link{Name: l.Name, Index: l.Index, MTU: l.MTU, Up: l.Up, Counters: h.counters[name]}
	for _, m := range h.links {
		if l.Master != 0 && m.Index == l.Master {
			v.Master = m.Name
		}
	}
	return v
}

// Container is everything of the container of an ID.
func (h *Host) Container(ctx context.Context, id string) *Container {
	v := &Container{Kind: KindContainer, Container: id}
	for _, a := range h.Records {
		if a.Container != id {
			continue
		}
		d := Detail{Attachment: h.view(a), Record: a, Firewall: []ruleset.Element{}, Check: checked(ctx, a)}
		d.HostEnd = h.link(d.HostInterface)
		if found, err := ruleset.Elements(ctx, a); err != nil {
			d.FirewallError = err.Error()
		} else {
			d.Firewall = append(d.Firewall, found...)
		}
		v.Name = d.Name
		v.Attachments = append(v.Attachments, d)
	}
	return v
}

func (h *Host) view(a *attach.Attachment) Attachment {
	return Attachments([]*attach.Attachment{a}, func(*Attachment) bool { return true }, h.links, h.now)[0]
}

// checked runs the checks of all steps. What others have changed in the container is theirs.
func checked(ctx context.Context, a *attach.Attachment) Check {
	look := *a
	look.Steps = slices.Clone(a.Steps)
	for i, s := range look.Steps {
		look.Steps[i] = link.Outside(s)
	}
	err := attach.Check(ctx, &look)
	if err == nil {
		return Check{OK: true}
	}
	return Check{Problems: strings.Split(err.Error(), "\n")}
}

// Network is what this host knows of a network.
type Network struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Known is what the host remembers; null before the first ADD.
	Known *attach.Network `json:"known"`
	// Link is the bridge, or the parent of macvlan and ipvlan; null where there is none.
	Link *Link `json:"link"`
	// Overlay is what an overlay network is on this host, and Tunnel its VXLAN device.
	Overlay     *overlay.Local `json:"overlay,omitempty"`
	Tunnel      *Link          `json:"tunnel,omitempty"`
	Problems    []string       `json:"problems,omitempty"`
	Attachments []Attachment   `json:"attachments"`
}

// Network is everything of the network of a name; nil when the host knows none.
func (h *Host) Network(name string) *Network {
	v := &Network{Kind: KindNetwork, Name: name}
	device := ""
	if k := slices.IndexFunc(h.known, func(n attach.Network) bool { return n.Name == name }); k >= 0 {
		v.Known, device = &h.known[k], h.known[k].Link
	}
	if k := slices.IndexFunc(h.locals, func(l *overlay.Local) bool { return l.Network.Name == name }); k >= 0 {
		v.Overlay, device = h.locals[k], h.locals[k].Network.Bridge()
		v.Tunnel = h.link(v.Overlay.Network.Device())
		if v.Tunnel == nil {
			v.Problems = append(v.Problems, fmt.Sprintf("there is no device %s", v.Overlay.Network.Device()))
		}
		if v.Overlay.Refused != "" {
			v.Problems = append(v.Problems, v.Overlay.Refused)
		}
	}
	v.Attachments = Attachments(h.Records, func(a *Attachment) bool { return a.Network == name }, h.links, h.now)
	if v.Known == nil && v.Overlay == nil && len(v.Attachments) == 0 {
		return nil
	}
	v.Link = h.link(device)
	switch {
	case device == "":
	case v.Link == nil && slices.ContainsFunc(v.Attachments, func(a Attachment) bool { return !a.Routed }):
		v.Problems = append(v.Problems, fmt.Sprintf("there is no interface %s", device))
	case v.Link != nil && !v.Link.Up:
		v.Problems = append(v.Problems, fmt.Sprintf("interface %s is down", device))
	}
	return v
}
