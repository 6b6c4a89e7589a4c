package link

import (
	"errors"
	"fmt"
	"os"

	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"golang.org/x/sys/unix"
)

// Foreign is a container's interface that somebody else made: a veth whose other end is a
// port of a bridge of this host, or a macvlan.
type Foreign struct {
	Netns  string // path
	Cookie uint64 // of the namespace
	IfName string
}

// FindForeign looks for such an interface in a namespace; nil when there is none, when the
// namespace is gone, and when it is the host's own.
func FindForeign(path, ifName string) (*Foreign, error) {
	f := &Foreign{Netns: path, IfName: ifName}
	ns, err := OpenNetns(path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, ErrNotNetns) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if own, err := ns.IsOwn(); err != nil || own {
		return nil, err
	}
	c, err := ns.dial()
	if err != nil {
		return nil, err
	}
	defer c.close()
	l, err := c.LinkByName(ifName)
	if notExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for %s in %s: %w", ifName, path, err)
	}
	if f.Cookie, err = c.cookie(); err != nil {
		return nil, err
	}
	switch l.Kind {
	case "macvlan":
		return f, nil
	case "veth":
		onBridge, err := endsInPort(l)
		if err != nil || !onBridge {
			return nil, err
		}
		return f, nil
	}
	return nil, nil
}

// endsInPort tells whether the other end of a container's veth is a port of a bridge.
func endsInPort(inside *rtnl.Link) (bool, error) {
	c, err := dial()
	if err != nil {
		return false, err
	}
	defer c.close()
	l, err := c.LinkByIndex(inside.Parent)
	if isErrno(err, unix.ENODEV) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for the other end of %s: %w", inside.Name, err)
	}
	return l.Kind == "veth" && l.Away && l.Parent == inside.Index && l.Master != 0, nil
}

// Delete deletes the interface, and with it the other end.
func (f *Foreign) Delete() error {
	c, err := dialIn(f.Netns)
	if err != nil {
		return err
	}
	defer c.close()
	return c.deleteLink(f.IfName)
}
