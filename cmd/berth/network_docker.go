package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/network"
)

// shortID is the length that Docker cuts IDs to.
const shortID = 12

// short12 is an ID as people see it: of hexadecimal digits as long as Docker's, the start. What
// looks otherwise says no more by its start than that it is no such ID.
func short12(id string) string {
	if hexadecimal(id) && len(id) > shortID {
		return id[:shortID]
	}
	return id
}

func hexadecimal(s string) bool { return s != "" && strings.Trim(s, "0123456789abcdef") == "" }

// labelMap is written as Docker writes labels: KEY=VALUE,KEY=VALUE.
type labelMap map[string]string

func (l labelMap) String() string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(l)) {
		all = append(all, key+"="+l[key])
	}
	return strings.Join(all, ",")
}

// listed are the fields that 'docker network ls' has for templates, and writes as JSON.
type listed struct {
	ID, Name, Driver, Scope string
	CreatedAt               string
	IPv4, IPv6, Internal    bool
	Labels                  labelMap
}

// newListed is a network as a line of the list, with its whole ID or the start of it.
func newListed(d *network.Docker, whole bool) listed {
	return listed{ID: shownID(d.ID, whole), Name: d.Name, Driver: d.Driver, Scope: d.Scope, CreatedAt: d.Created.UTC().String(),
		IPv4: d.EnableIPv4, IPv6: d.EnableIPv6, Internal: d.Internal, Labels: d.Labels}
}

// Label is the value of a label; empty: there is none.
func (l listed) Label(key string) string { return l.Labels[key] }

// MarshalJSON implements [json.Marshaler]: all values are texts, as Docker's are.
func (l listed) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"ID": l.ID, "Name": l.Name, "Driver": l.Driver, "Scope": l.Scope, "CreatedAt": l.CreatedAt,
		"IPv4": fmt.Sprint(l.IPv4), "IPv6": fmt.Sprint(l.IPv6), "Internal": fmt.Sprint(l.Internal), "Labels": l.Labels.String()})
}

// What templates see: first the fields that Docker has, then those of ours.
type (
	listedHere struct {
		listed
		hostNetworkView
	}
	listedOverlay struct {
		listed
		overlayNetworkView
	}
	inspectedHere struct {
		*network.Docker
		hostNetworkView
	}
	inspectedOverlay struct {
		*network.Docker
		overlayNetworkView
	}
)

// MarshalJSON implements [json.Marshaler]: as Docker.
func (v inspectedHere) MarshalJSON() ([]byte, error) { return json.Marshal(v.Docker) }

// MarshalJSON implements [json.Marshaler]: as Docker.
func (v inspectedOverlay) MarshalJSON() ([]byte, error) { return json.Marshal(v.Docker) }

func (v hostNetworkView) docker() *network.Docker    { return v.View.Docker() }
func (v overlayNetworkView) docker() *network.Docker { return v.OverlayView.Docker() }

func (v hostNetworkView) listed(whole bool) any { return listedHere{newListed(v.docker(), whole), v} }
func (v overlayNetworkView) listed(whole bool) any {
	return listedOverlay{newListed(v.docker(), whole), v}
}

func (v hostNetworkView) inspected(verbose bool) any {
	d := v.docker()
	if verbose {
		d.Berth = v.View
	}
	return inspectedHere{d, v}
}

func (v overlayNetworkView) inspected(verbose bool) any {
	d := v.docker()
	if verbose {
		d.Berth = v.OverlayView
	}
	return inspectedOverlay{d, v}
}
