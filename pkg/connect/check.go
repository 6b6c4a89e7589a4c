package connect

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/network"
	"golang.org/x/sys/unix"
)

// connectable is the network's file, if containers can be connected to it.
func connectable(n *network.Networks, name, dir string) (*conflist.File, error) {
	f := conflist.Find(n.Files, name)
	switch {
	case f == nil && name == conflist.Host:
		return nil, errHostMode
	case f == nil && name == conflist.None:
		return nil, errNoneMode
	case f == nil:
		err := fmt.Errorf("there is none of that name in %s; one that spans hosts gets there by 'berth network conflist'", dir)
		return nil, errors.Join(err, n.Unread)
	}
	switch foreign := f.Foreign(); {
	case len(foreign) > 0:
		return nil, fmt.Errorf("its chain has the plugins %s: nobody would undo what those make when the container ends", strings.Join(foreign, ", "))
	case f.Driver() == conflist.Host:
		return nil, errHostMode
	case f.Driver() == conflist.None:
		return nil, errNoneMode
	case f.Driver() == conflist.Share:
		return nil, errSharedMode
	}
	return f, nil
}

// Docker refuses these, too.
var (
	errHostMode   = errors.New("a container with the host's network has no other, and none becomes one")
	errNoneMode   = errors.New("a container of the network none is to have no other")
	errSharedMode = errors.New("a container that shares the network of another one has what that one has: connect that one")
)

// connectable tells why the container cannot be connected to a network.
func (c *container) connectable(network string) error {
	for _, a := range c.records {
		switch {
		case a.Network == network && !a.Deleting:
			return fmt.Errorf("is connected already, as %s", a.IfName)
		case a.Network == network:
			return fmt.Errorf("is being disconnected: 'berth network disconnect %s %s' goes on with it", network, c.id)
		case a.Plugin == conflist.Host:
			return errHostMode
		case a.Plugin == conflist.None:
			return errNoneMode
		case a.Plugin == conflist.Share:
			return errSharedMode
		}
	}
	return nil
}

// freeName is the first ethN that the container does not have.
func (c *container) freeName() (string, error) {
	ns, err := netns.Open(c.netns)
	if err != nil {
		return "", err
	}
	defer ns.Close()
	for i := 0; ; i++ {
		name := fmt.Sprintf("eth%d", i)
		if slices.ContainsFunc(c.records, func(a *attach.Attachment) bool { return a.IfName == name }) {
			continue
		}
		_, _, err := link.Inspect(ns, name)
		if errors.Is(err, unix.ENODEV) {
			return name, nil
		}
		if err != nil {
			return "", fmt.Errorf("look for %s: %w", name, err)
		}
	}
}
