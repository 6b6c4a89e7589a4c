package overlay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Control is the store, as a node's agent sees it.
type Control interface {
	// Watch calls fn with the whole state ([Update].Full), then with every change, in
	// order and never twice at a time, until the context ends, whose error it
	// returns. It waits out a store that is away (fn gets an Update with Err, at
	// most one for each time that the store goes away; the next one, which may be
	// empty, says that it is back), and catches up with another full update when
	// changes were missed. It never calls fn with data that is not
	// valid: that is in Bad.
	Watch(ctx context.Context, fn func(Update)) error
	// Register claims the node's name for its token, or renews its address and MTU,
	// and says that the node lives until the context ends or Withdraw is called, again and again while
	// the store is away. It returns once the name is had; a [*ConflictError] when
	// it is another's. [ErrRemoved] when known says that the node was registered
	// before, and there is a [Removal] of it; nothing is written then. A store that does
	// not have the node without one has lost it, and takes it as it was. lost
	// is called when, later, the name turns out to be another's, or removed.
	Register(ctx context.Context, node Node, instance string, known bool, lost func(error)) error
	// Claim takes a block for the registered node, or renews what it says of one
	// that the node has. [ErrTaken] when it is another's.
	Claim(ctx context.Context, b Block) error
	// Miss tells all others, for as long as the registered node lives, what it misses in
	// the store; with no networks, that it misses nothing.
	Miss(ctx context.Context, m Missed) error
	// Withdraw says that the node's agent stops, in good order.
	Withdraw(ctx context.Context) error
}

// Admin is the store, as the people's program sees it.
type Admin interface {
	// State reads everything, once.
	State(ctx context.Context) (*State, error)
	// CreateNetwork writes a network, with an ID and a VNI if it has none. An error
	// of [Network.Conflict] when it is in another's way.
	CreateNetwork(ctx context.Context, n Network) (Network, error)
	// RemoveNetwork removes a network and its blocks, and leaves a [Removal]. A
	// [*InUseError] when nodes use it, unless forced.
	RemoveNetwork(ctx context.Context, name string, force bool) error
	// RemoveNode gives a node's name and blocks back, and leaves a [Removal]. A [*InUseError] when it is
	// alive, unless forced.
	RemoveNode(ctx context.Context, name string, force bool) error
	// Restore gives the store what it does not have of what a host remembers: nothing
	// that is there is changed, and nothing that has been removed comes again. With dry
	// it writes nothing.
	Restore(ctx context.Context, from *State, dry bool) (*Restoration, error)
}

// Store is both sides of a store, and its end.
type Store interface {
	Control
	Admin
	Close() error
}

// Giver is a store whose cluster says which blocks a node has of a network that is so
// ([Network.PodCIDRs]).
type Giver interface {
	// Given are the prefixes that the cluster gives the node, of any network.
	Given(ctx context.Context, node string) ([]netip.Prefix, error)
}

var (
	// ErrTaken: the block is another node's.
	ErrTaken = errors.New("the block is another node's")
	// ErrRemoved: the node was removed from the store, its blocks may be others'.
	ErrRemoved = errors.New("the node was removed from the store")
	// ErrNotFound: the store does not have it.
	ErrNotFound = errors.New("not in the store")
	// ErrNotAllowed: who asks may not write what is other hosts'.
	ErrNotAllowed = errors.New("the store does not let this host write what is others'")
	// ErrReadOnly: the store is a file that people write.
	ErrReadOnly = errors.New("this store is a file: edit it")
)

// ConflictError: the node's name is another host's.
type ConflictError struct {
	Node    string
	Address netip.Addr // the other's
	Since   time.Time
	// Cloned says that the other one has the same token: a copy of the disk.
	Cloned bool
}

func (e *ConflictError) Error() string {
	if e.Cloned {
		return fmt.Sprintf("node %q is running on another host (address %s, since %s) with this host's own identity: is this disk a copy? "+
			"Remove its node.json and start again with another --node-name, or, if that host is gone for good, start this agent again", e.Node, e.Address, e.Since.Format(time.RFC3339))
	}
	return fmt.Sprintf("node name %q is another host's (address %s, since %s): choose another --node-name, or, "+
		"if that host is gone for good, 'berth node rm %s'", e.Node, e.Address, e.Since.Format(time.RFC3339), e.Node)
}

// InUseError: what shall be removed is in use.
type InUseError struct {
	What string   // "network blue"
	By   []string // nodes
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("%s is in use by %v; --force removes it all the same", e.What, e.By)
}
