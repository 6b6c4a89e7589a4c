package main

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/inspect"
	"github.com/berth-cni/berth/pkg/network"
)

// hostNetworkView writes a network of this host.
type hostNetworkView struct{ *network.View }

func (v hostNetworkView) line() *networkLine {
	l := &networkLine{name: v.Name, driver: v.Driver, on: orDash(v.Link), id: v.docker().ID, scope: v.Scope, options: v.Options(), labels: v.Labels,
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

func (v hostNetworkView) table(w io.Writer) {
	row(w, "name:", v.Name)
	row(w, "id:", short12(v.docker().ID))
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
	row(w, "options:", list(v.Options()))
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
