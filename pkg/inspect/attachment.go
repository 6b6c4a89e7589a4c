package inspect

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/names"
)

// Attachment is an attachment as it is shown.
type Attachment struct {
	Name      string       `json:"name"` // or a short ID
	Container string       `json:"container"`
	Network   string       `json:"network"`
	Interface string       `json:"interface"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
	Ports     []Port       `json:"ports,omitempty"`
	Names     []string     `json:"names,omitempty"`
	MAC       string       `json:"mac,omitempty"`
	// HostInterface is the host's end; empty where there is none.
	HostInterface string `json:"hostInterface,omitempty"`
	// Routed says that the host's end is on no bridge: the host routes to the container.
	Routed bool   `json:"routed,omitempty"`
	Plugin string `json:"plugin"`
	Netns  string `json:"netns"`
	// Namespace says what has become of it: there, gone, "without its path"
	// while a process is still in it, or unknown.
	Namespace string    `json:"namespace,omitempty"`
	Created   time.Time `json:"created"`
	Age       string    `json:"age"`
	// Removing says that a DEL has begun, and not ended.
	Removing bool `json:"removing,omitempty"`
}

// NamespaceGone is what [Attachment.Namespace] says of a namespace that has ended.
var NamespaceGone = host.Gone.String()

// Port is a port as people write it.
type Port attach.Port

func (p Port) String() string {
	host := fmt.Sprint(p.HostPort)
	if p.HostIP.IsValid() && !p.HostIP.IsUnspecified() {
		host = netip.AddrPortFrom(p.HostIP, p.HostPort).String()
	}
	return fmt.Sprintf("%s->%d/%s", host, p.ContainerPort, p.Protocol)
}

// Attachments are those of the records that fit, sorted by name. Whether their
// namespaces are there is told where links are given, the host's: that opens each.
func Attachments(records []*attach.Attachment, fits func(*Attachment) bool, links host.Links, now time.Time) []Attachment {
	all := []Attachment{}
	for _, a := range records {
		v := Attachment{
			Name: names.Called(a), Container: a.Container, Network: a.Network, Interface: a.IfName, Names: names.Registered(a),
			MAC: a.MAC, HostInterface: hostInterface(a), Routed: link.IsRouted(a), Plugin: a.Plugin, Netns: a.Netns,
			Created: a.Created, Age: host.Age(now.Sub(a.Created)), Removing: a.Deleting,
		}
		if a.Role != attach.Main {
			v.Plugin += " (" + string(a.Role) + ")"
		}
		for _, addr := range a.Addresses {
			v.Addresses = append(v.Addresses, addr.Prefix.Addr())
		}
		for _, port := range a.Ports {
			v.Ports = append(v.Ports, Port(port))
		}
		if links != nil {
			what, _ := host.StateOf(a, links, now)
			v.Namespace = what.String()
		}
		if !fits(&v) {
			continue
		}
		all = append(all, v)
	}
	slices.SortStableFunc(all, func(a, b Attachment) int { // within a container as the store has them, by network
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Container, b.Container))
	})
	return all
}

// hostInterface is the name of the host's end of the attachment's interface; empty
// where it has none.
func hostInterface(a *attach.Attachment) string {
	if host.HasVeth(a) {
		return a.HostIfName()
	}
	return ""
}
