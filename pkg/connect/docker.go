package connect

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/inspect"
	"github.com/berth-cni/berth/pkg/names"
)

var errDefaultRoute = errors.New("its default route stays that of the network it has it from: want a priority of 0 or less, or disconnect it from that network first")

// linked tells why the container would not find one that it is to be linked to by the name that
// it is to have. on are the attachments to the network.
func (o *Options) linked(on []*attach.Attachment) error {
	for _, l := range o.Links {
		word, alias, _ := strings.Cut(l, ":")
		id, err := inspect.Find(on, word)
		if err != nil {
			return fmt.Errorf("link %s: %w", l, err)
		}
		i := slices.IndexFunc(on, func(a *attach.Attachment) bool { return a.Container == id })
		if i < 0 {
			return fmt.Errorf("link %s: %s is not on the network", l, word)
		}
		if alias == "" {
			alias = word
		}
		if called := names.Registered(on[i]); !slices.Contains(called, strings.ToLower(alias)) {
			return fmt.Errorf("link %s: the network knows %s as %q, and a name is the same for all of its containers: connect that one with --alias %s",
				l, word, strings.Join(called, ", "), alias)
		}
	}
	return nil
}

// ifName is the name that the interface is to have.
func (c *container) ifName(asked string) (string, error) {
	if asked == "" {
		return c.freeName()
	}
	if err := cni.ValidIfName(asked); err != nil {
		return "", fmt.Errorf("interface name %s: %w", asked, err)
	}
	if slices.ContainsFunc(c.records, func(a *attach.Attachment) bool { return a.IfName == asked }) {
		return "", fmt.Errorf("interface name %s: the container has one of that name", asked)
	}
	return asked, nil
}
