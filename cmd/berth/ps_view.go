package main

import (
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/inspect"
)

// cells are what a table shows of an attachment.
func cells(v *inspect.Attachment, wide bool) []any {
	since := v.Age
	if v.Removing {
		since += " (removing)"
	}
	cells := []any{host.Printable(v.Name), v.Network, v.Interface, list(v.Addresses), list(v.Ports), list(v.Names), since}
	if wide {
		cells = append(cells, orDash(v.MAC), orDash(v.HostInterface), v.Plugin, host.Printable(v.Netns)+" ("+v.Namespace+")")
	}
	return cells
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
