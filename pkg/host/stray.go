package host

import (
	"cmp"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link"
)

// Links are the interfaces of the host, by name.
type Links map[string]link.Link

// ListLinks lists them, with one question to the kernel.
func ListLinks() (Links, error) {
	all, err := link.List()
	if err != nil {
		return nil, err
	}
	return link.ByName(all), nil
}

const vethPrefix = "veth"

// withoutRecord are interfaces with the name of an attachment's that no record has,
// by name.
func withoutRecord(links Links, records []*attach.Attachment) (all []link.Link) {
	known := map[string]bool{}
	for _, a := range records {
		known[a.HostIfName()] = true
	}
	for _, l := range links {
		if hash, ok := strings.CutPrefix(l.Name, vethPrefix); ok && l.Kind == "veth" && attach.IsHash(hash) && !known[l.Name] {
			all = append(all, l)
		}
	}
	slices.SortFunc(all, func(a, b link.Link) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Unrecorded are the names of interfaces of ours that lead to a container which lives,
// and that no record has: it is in another state folder, or lost.
func Unrecorded(links Links, records []*attach.Attachment) (names []string) {
	for _, l := range withoutRecord(links, records) {
		if l.PeerAway {
			names = append(names, l.Name)
		}
	}
	return names
}

// StrayLinks are interfaces of ours that lead to no container, and that no record has.
func StrayLinks(links Links, records []*attach.Attachment) []link.Link {
	return slices.DeleteFunc(withoutRecord(links, records), func(l link.Link) bool { return l.PeerAway })
}
