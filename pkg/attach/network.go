package attach

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Network is what the host remembers of a network that it has seen an ADD for. It is
// also the step by which each attachment has it remembered, which takes its place in
// the store and makes nothing.
type Network struct {
	Claiming `json:"-"`

	Name   string `json:"name"`
	Plugin string `json:"plugin"`
	Link   string `json:"link,omitempty"` // the bridge, or the master of a macvlan or an ipvlan; empty: each container has its own
	// LinkMode is what a link is for all networks on it, if it can be in one mode only, as
	// the master of ipvlans.
	LinkMode string         `json:"linkMode,omitempty"`
	Subnets  []netip.Prefix `json:"subnets,omitempty"` // of which the link has the gateway
	// Ranges are the first and last addresses that the built-in IPAM gives out.
	Ranges [][2]netip.Addr `json:"ranges,omitempty"`
	// Settings are the words that change what the firewall holds for the network, as
	// of the last ADD that succeeded.
	Settings []string `json:"settings,omitempty"`
	// Made says that an ADD has succeeded on this link: other firewalls on this host
	// have been told to let the network's traffic through.
	Made bool `json:"made,omitempty"`
}

// Kind implements [Step].
func (n *Network) Kind() string { return "network" }

// Claim implements [Claimer]: an [*OverlapError] when the addresses are also another
// network's. It finds out whether the settings have changed; what they are now is
// said when all steps have been added.
func (n *Network) Claim(tx *Tx, a *Adding) error {
	known, err := tx.EnsureNetwork(*n)
	if err != nil {
		return err
	}
	a.NetworkChanged = !known.Made || !slices.Equal(known.Settings, n.Settings)
	if a.NetworkChanged && a.Role == Main {
		a.AtEnd(func(tx *Tx) error { return tx.MadeNetwork(n.Name, n.Settings) })
	}
	return nil
}

// Status implements [Statuser]: whether the store can be read, and no other network has
// the addresses.
func (n *Network) Status(ctx context.Context, s *Store, _ string) error {
	return s.View(ctx, func(tx *Tx) error {
		_, err := tx.overlaps(*n)
		return err
	})
}

// OverlapError: a network has addresses of another one.
type OverlapError struct {
	What   string // "subnet 10.1.0.0/16"
	Other  Network
	Theirs string
}

func (e *OverlapError) Error() string {
	on := ""
	if e.Other.Link != "" {
		on = " on " + e.Other.Link
	}
	return fmt.Sprintf("%s overlaps %s of network %q%s", e.What, e.Theirs, e.Other.Name, on)
}

// LinkModeError: a network wants its link in another mode than the containers of a network on
// it have it in. That network may be the same, before its configuration was changed.
type LinkModeError struct {
	Mode  string // "l3 bridge"
	Other Network
}

func (e *LinkModeError) Error() string {
	return fmt.Sprintf("%s is in mode %s for network %q, and has one mode for all: it cannot be in mode %s", e.Other.Link, e.Other.LinkMode, e.Other.Name, e.Mode)
}

// overlap returns how two networks are in each other's way: on two links by their
// subnets, since the host can route one only; on one link by their ranges, since an
// address would be given out twice. A network that was on another link overlaps what it
// has left there.
func (n Network) overlap(o Network) error {
	if n.Link != "" && o.Link == n.Link && n.LinkMode != o.LinkMode && n.LinkMode != "" && o.LinkMode != "" {
		return &LinkModeError{n.LinkMode, o}
	}
	if o.Name == n.Name && (o.Link == n.Link || o.Link == "" || n.Link == "") {
		return nil // also one that had a bridge, or gets one: the host routes to each container of the other kind
	}
	if o.Link != n.Link || n.Link == "" {
		for _, mine := range n.Subnets {
			for _, theirs := range o.Subnets {
				if mine.Overlaps(theirs) {
					return &OverlapError{"subnet " + mine.String(), o, theirs.String()}
				}
			}
		}
		return nil
	}
	for _, mine := range n.Ranges {
		for _, theirs := range o.Ranges {
			if mine[0].BitLen() == theirs[0].BitLen() && mine[0].Compare(theirs[1]) <= 0 && theirs[0].Compare(mine[1]) <= 0 {
				return &OverlapError{fmt.Sprintf("range %s-%s", mine[0], mine[1]), o, fmt.Sprintf("%s-%s", theirs[0], theirs[1])}
			}
		}
	}
	return nil
}

// Network returns the network of that name; false when the host does not know it.
func (t *Tx) Network(name string) (Network, bool) {
	var n Network
	data := t.bucket(networkBucket).Get([]byte(name))
	if data == nil || json.Unmarshal(data, &n) != nil {
		return n, false
	}
	return n, true
}

// Networks returns all networks, in the order of their names.
func (t *Tx) Networks() ([]Network, error) {
	var all []Network
	err := t.bucket(networkBucket).ForEach(func(name, data []byte) error {
		var n Network
		if err := json.Unmarshal(data, &n); err != nil {
			return fmt.Errorf("decode network %s: %w", name, err)
		}
		all = append(all, n)
		return nil
	})
	return all, err
}

// EnsureNetwork remembers a network before it is made; [Tx.MadeNetwork] says later
// that it was. It returns what the host knew of it. An [*OverlapError] when its
// addresses are also another network's, and a [*LinkModeError] when it wants its link in
// another mode than one does that has containers there.
func (t *Tx) EnsureNetwork(n Network) (known Network, err error) {
	known, ok := t.Network(n.Name)
	n.Made = known.Made && known.Link == n.Link
	n.Settings = known.Settings // what is in force, until an ADD has succeeded
	data, err := json.Marshal(n)
	if err != nil {
		return known, err
	}
	if ok && bytes.Equal(data, t.bucket(networkBucket).Get([]byte(n.Name))) {
		return n, nil
	}
	unused, err := t.overlaps(n)
	if err != nil {
		return known, err
	}
	for _, o := range unused { // whose next ADD is to ask again
		o.LinkMode = ""
		if err := t.PutNetwork(o); err != nil {
			return known, err
		}
	}
	return n, t.PutNetwork(n)
}

// overlaps returns an [*OverlapError] when the network's addresses are also another one's, and
// a [*LinkModeError] when containers have the link in another mode, also its own.
// Networks without containers are in nobody's way by their mode, and are returned.
func (t *Tx) overlaps(n Network) (unused []Network, err error) {
	others, err := t.Networks()
	if err != nil {
		return nil, err
	}
	for _, o := range others {
		err := n.overlap(o)
		var mode *LinkModeError
		if errors.As(err, &mode) && !t.used(o.Name) {
			unused = append(unused, o)
			continue
		}
		if err != nil {
			return nil, err
		}
	}
	return unused, nil
}

// used tells whether a network has attachments.
func (t *Tx) used(network string) bool {
	prefix := []byte(network + "\x00")
	k, _ := t.bucket(attachmentBucket).Cursor().Seek(prefix)
	return bytes.HasPrefix(k, prefix)
}

// MadeNetwork remembers that an ADD has succeeded, with these settings.
func (t *Tx) MadeNetwork(name string, settings []string) error {
	n, ok := t.Network(name)
	if !ok {
		return nil
	}
	n.Made, n.Settings = true, settings
	return t.PutNetwork(n)
}

// PutNetwork writes what the host remembers of a network.
func (t *Tx) PutNetwork(n Network) error {
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return t.bucket(networkBucket).Put([]byte(n.Name), data)
}

// ForgetNetwork removes a network from the host's memory, with what it leased last, and which
// addresses are kept for whom.
func (t *Tx) ForgetNetwork(name string) error {
	prefix := []byte(name + "\x00")
	for _, bucket := range [][]byte{cursorBucket, keptBucket, keeperBucket, keptAgeBucket, keptBlockBucket} {
		c := t.bucket(bucket).Cursor()
		for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Seek(prefix) {
			if err := c.Delete(); err != nil {
				return err
			}
		}
	}
	return t.bucket(networkBucket).Delete([]byte(name))
}
