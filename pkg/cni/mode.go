package cni

import (
	"context"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link"
)

// Mode is what one plugin says of itself.
type Mode struct {
	// Name is the plugin's name in the records, and the CNI type.
	Name string
	// Config returns an empty configuration, with the mode's defaults.
	Config func() Config
	// Chains says that the mode also takes an interface that an earlier plugin of the
	// chain has made: see [Request.Chained].
	Chains bool
	// Joins says that the mode makes no interface. The container sees some that are
	// there already: lo, the host's, or another container's.
	Joins bool
	// Leases says that the mode only gives addresses, to another main plugin that
	// delegates to it (SPEC section 4). It gets that plugin's configuration.
	Leases bool
	// Unrecorded says that the mode leaves nothing that would have to be deleted. It
	// keeps no record, works beside the plugin that makes the interface, and passes on
	// the result of the plugins before it.
	Unrecorded bool
}

// Config is a mode's configuration: a struct that embeds [Conf].
type Config interface {
	// Common is the part that all modes share; [Conf] has it.
	Common() *Conf
	// Plan turns the configuration into the steps that an ADD is to take, in order;
	// one that is nil is left out. It may ask the host, and changes nothing. It notes
	// what is wrong with the configuration by [Request.Refuse]; its own errors are about
	// the host. STATUS calls it too, without a container: CNI_NETNS is empty then.
	Plan(*Request) ([]attach.Step, error)
}

// Verifier is a [Config] that knows more of an attachment than its steps do: Verify
// tells, for CHECK, whether what it stands on is there.
type Verifier interface {
	Verify(*Request, *attach.Attachment) error
}

// Statuser is a [Config] that knows more of the host than the steps of its plan do:
// Status tells, for STATUS, whether an ADD could work now. What is only worth a warning,
// it says by [Warn].
type Statuser interface {
	Status(*Request) error
}

// Replacer is a [Config] of a plugin that the reference has, too, and that makes
// interfaces: a DEL may be for one of its containers. Replaces says what these look like.
type Replacer interface {
	Replaces() link.ForeignKind
}

// roles are those of the records that the mode keeps, the last made first.
func (m *Mode) roles() []attach.Role {
	switch {
	case m.Unrecorded:
		return nil
	case m.Leases:
		return []attach.Role{attach.IPAM}
	case m.Chains:
		return []attach.Role{attach.Chained, attach.Main}
	}
	return []attach.Role{attach.Main}
}

// Request reads a verb's configuration and CNI_ARGS for the mode. The request is
// usable in spite of an error, as far as it could be read: for DEL, which must not
// fail on them.
func (m *Mode) Request(ctx context.Context, args *CmdArgs) (*Request, error) {
	r, err := newRequest(args, m.Config(), m)
	r.ctx = ctx
	return r, err
}

// present leaves out what a mode has no use for.
func present(steps []attach.Step) []attach.Step {
	return slices.DeleteFunc(steps, func(s attach.Step) bool { return s == nil })
}
