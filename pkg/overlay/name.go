package overlay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/names"
)

// Name is what a container of a node is called on a network, as the other hosts are
// told. It lives as long as its node does ([Alive]). In JSON it is without its key.
type Name struct {
	NameKey `json:"-"`
	// Names are single labels in lower case, the container's own first.
	Names     []string     `json:"names"`
	Addresses []netip.Addr `json:"addresses"`
}

// NameKey names a container's interface on a node.
type NameKey struct {
	Network, Node, Container, IfName string
}

func (k NameKey) String() string {
	return fmt.Sprintf("%s/%s/%s:%s", k.Network, k.Node, k.Container, k.IfName)
}

// Roster is the part of a store by which the hosts tell each other names.
type Roster interface {
	// PublishNames has the other hosts know names of the registered node's containers
	// (put, in place of ones with their keys), and know others no more (drop); no key
	// is in both. After an error some of it may be done. It is [ErrNotRegistered] when
	// the node is not registered, or its life has ended: then all its names are gone,
	// and are to be published again. A restart of the agent within the time that the
	// node counts as alive leaves them, until they are published again.
	PublishNames(ctx context.Context, put []Name, drop []NameKey) error
	// WatchNames is [Control.Watch] for the names of a network, of all its nodes. Only
	// Full, Names, GoneNames, Bad, GoneBad and Err of the updates are used. That a
	// name's addresses are its node's to name is for the caller to ask [State.MayName].
	WatchNames(ctx context.Context, network string, fn func(Update)) error
}

// ErrNotRegistered: the node has no life in the store that names could hang on.
var ErrNotRegistered = errors.New("the node is not registered")

// Bounds of what one container is called.
const (
	maxNames     = 64
	maxAddresses = 16
	maxIfName    = 15 // IFNAMSIZ is 16, with the terminating zero
)

// Validate returns all that is wrong with the name by itself.
func (n *Name) Validate() error {
	var errs []error
	refuse := func(key string, value any, err error) { errs = append(errs, fmt.Errorf("%s: %v: %w", key, value, err)) }
	for _, part := range []struct{ key, value string }{{"network", n.Network}, {"node", n.Node}, {"container", n.Container}} {
		if err := ValidName(part.value); err != nil {
			refuse(part.key, fmt.Sprintf("%.*q", maxName, part.value), err)
		}
	}
	if !validIfName(n.IfName) {
		refuse("ifname", fmt.Sprintf("%.*q", maxName, n.IfName), errors.New("want the name of an interface"))
	}
	if len(n.Names) == 0 || len(n.Names) > maxNames {
		refuse("names", len(n.Names), fmt.Errorf("want 1 to %d", maxNames))
		return errors.Join(errs...)
	}
	for i, name := range n.Names {
		err := names.Valid(name)
		switch {
		case err == nil && name != strings.ToLower(name):
			err = errors.New("want lower case")
		case err == nil && slices.Contains(n.Names[:i], name):
			err = errors.New("want each name once")
		}
		if err != nil {
			refuse("names", fmt.Sprintf("%.*q", maxName, name), err)
		}
	}
	if len(n.Addresses) == 0 || len(n.Addresses) > maxAddresses {
		refuse("addresses", len(n.Addresses), fmt.Errorf("want 1 to %d", maxAddresses))
		return errors.Join(errs...)
	}
	for i, a := range n.Addresses {
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" || slices.Contains(n.Addresses[:i], a) {
			refuse("addresses", a, errors.New("want addresses of the network, each once"))
		}
	}
	return errors.Join(errs...)
}

// validIfName is the kernel's rule (dev_valid_name in net/core/dev.c), for names that
// can be printed.
func validIfName(s string) bool {
	bad := func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '/' || r == ':' }
	return s != "" && len(s) <= maxIfName && s != "." && s != ".." && !strings.ContainsFunc(s, bad)
}

// MayName returns why a name is not its node's to give: it may name addresses of its
// own blocks only.
func (s *State) MayName(n *Name) error {
	of, ok := s.Networks[n.Network]
	if !ok {
		return fmt.Errorf("network: %q: %w", n.Network, ErrNotFound)
	}
	blocks := s.BlocksOf(n.Network, n.Node)
	for _, a := range n.Addresses {
		has := func(p netip.Prefix) bool { return p.Contains(a) }
		switch {
		case !slices.ContainsFunc(of.Subnets, has):
			return fmt.Errorf("addresses: %s: is not of the network, %v", a, of.Subnets)
		case !slices.ContainsFunc(blocks, has):
			return fmt.Errorf("addresses: %s: is not of node %q, which has %v", a, n.Node, blocks)
		}
	}
	return nil
}

// Same tells whether two names say the same.
func (n *Name) Same(o *Name) bool {
	return n.NameKey == o.NameKey && slices.Equal(n.Names, o.Names) && slices.Equal(n.Addresses, o.Addresses)
}
