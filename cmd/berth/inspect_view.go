package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall/ruleset"
	"github.com/berth-cni/berth/pkg/overlay"
)

// containerView is a container with all of its attachments.
type containerView struct {
	Kind        string       `json:"kind"`
	Name        string       `json:"name"`
	Container   string       `json:"container"`
	Attachments []detailView `json:"attachments"`
}

// detailView is everything of one attachment.
type detailView struct {
	attachmentView
	Record *attach.Attachment `json:"record"` // with its steps
	// HostEnd is the host's end of the interface; null where there is none.
	HostEnd       *linkView         `json:"hostEnd"`
	Firewall      []ruleset.Element `json:"firewall"`
	FirewallError string            `json:"firewallError,omitempty"` // why the elements are not known
	Check         checkView         `json:"check"`
}

// checkView is what [attach.Check] says.
type checkView struct {
	OK       bool     `json:"ok"`
	Problems []string `json:"problems,omitempty"`
}

// linkView is an interface of the host.
type linkView struct {
	Name     string   `json:"name"`
	Index    int      `json:"index"`
	MTU      int      `json:"mtu"` // bytes
	Up       bool     `json:"up"`
	Master   string   `json:"master,omitempty"` // the bridge that it is a port of
	Counters counters `json:"counters"`
}

// counters count since the interface was made. What the host's end of a pair receives,
// its container has sent.
type counters struct {
	ReceivedBytes   uint64 `json:"receivedBytes"`
	ReceivedPackets uint64 `json:"receivedPackets"`
	ReceivedErrors  uint64 `json:"receivedErrors"`
	ReceivedDropped uint64 `json:"receivedDropped"`
	SentBytes       uint64 `json:"sentBytes"`
	SentPackets     uint64 `json:"sentPackets"`
	SentErrors      uint64 `json:"sentErrors"`
	SentDropped     uint64 `json:"sentDropped"`
}

// readCounters reads those of all interfaces of the calling thread's namespace
// (proc_pid_net(5), dev).
func readCounters() (map[string]counters, error) {
	data, err := os.ReadFile("/proc/thread-self/net/dev")
	if err != nil {
		return nil, err
	}
	all := map[string]counters{}
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
		all[strings.TrimSpace(name)] = counters{n(0), n(1), n(2), n(3), n(8), n(9), n(10), n(11)}
	}
	return all, nil
}

// link is an interface of the host; nil when there is none.
func (i *inspector) link(name string) *linkView {
	l, ok := i.links[name]
	if !ok {
		return nil
	}
	v := &linkView{Name: l.Name, Index: l.Index, MTU: l.MTU, Up: l.Up, Counters: i.counters[name]}
	for _, m := range i.links {
		if l.Master != 0 && m.Index == l.Master {
			v.Master = m.Name
		}
	}
	return v
}

// container is everything of the container of an ID.
func (i *inspector) container(ctx context.Context, id string) *containerView {
	v := &containerView{Kind: kindContainer, Container: id}
	for _, a := range i.records {
		if a.Container != id {
			continue
		}
		d := detailView{attachmentView: i.view(a), Record: a, Firewall: []ruleset.Element{}, Check: checked(ctx, a)}
		d.HostEnd = i.link(d.HostInterface)
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

func (i *inspector) view(a *attach.Attachment) attachmentView {
	return i.attachmentViews([]*attach.Attachment{a}, new(psFilter).fits, i.links)[0]
}

// checked runs the checks of all steps.
func checked(ctx context.Context, a *attach.Attachment) checkView {
	err := attach.Check(ctx, a)
	if err == nil {
		return checkView{OK: true}
	}
	return checkView{Problems: strings.Split(err.Error(), "\n")}
}

// networkDetail is what this host knows of a network.
type networkDetail struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Known is what the host remembers; null before the first ADD.
	Known *attach.Network `json:"known"`
	// Link is the bridge, or macvlan's parent; null where there is none.
	Link *linkView `json:"link"`
	// Overlay is what an overlay network is on this host, and Tunnel its VXLAN device.
	Overlay     *overlay.Local   `json:"overlay,omitempty"`
	Tunnel      *linkView        `json:"tunnel,omitempty"`
	Problems    []string         `json:"problems,omitempty"`
	Attachments []attachmentView `json:"attachments"`
}

// network is everything of the network of a name; nil when the host knows none.
func (i *inspector) network(name string) *networkDetail {
	v := &networkDetail{Kind: kindNetwork, Name: name}
	device := ""
	if k := slices.IndexFunc(i.known, func(n attach.Network) bool { return n.Name == name }); k >= 0 {
		v.Known, device = &i.known[k], i.known[k].Link
	}
	if k := slices.IndexFunc(i.locals, func(l *overlay.Local) bool { return l.Network.Name == name }); k >= 0 {
		v.Overlay, device = i.locals[k], i.locals[k].Network.Bridge()
		v.Tunnel = i.link(v.Overlay.Network.Device())
		if v.Tunnel == nil {
			v.Problems = append(v.Problems, fmt.Sprintf("there is no device %s", v.Overlay.Network.Device()))
		}
		if v.Overlay.Refused != "" {
			v.Problems = append(v.Problems, v.Overlay.Refused)
		}
	}
	on := psFilter{network: []string{name}}
	v.Attachments = i.attachmentViews(i.records, on.fits, i.links)
	if v.Known == nil && v.Overlay == nil && len(v.Attachments) == 0 {
		return nil
	}
	v.Link = i.link(device)
	switch {
	case device == "":
	case v.Link == nil && len(v.Attachments) > 0:
		v.Problems = append(v.Problems, fmt.Sprintf("there is no interface %s", device))
	case v.Link != nil && !v.Link.Up:
		v.Problems = append(v.Problems, fmt.Sprintf("interface %s is down", device))
	}
	return v
}
