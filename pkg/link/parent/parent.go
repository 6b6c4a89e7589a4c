package parent

import (
	"fmt"

	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"github.com/berth-cni/berth/pkg/link/netns"
)

// Interface is one that others can be made on.
type Interface struct {
	Name string
	MAC  string
	MTU  int // bytes
}

// Find looks for an interface of the host, or of the namespace of a path if
// that is not empty: by name, or, without one, that of the default route. nil when
// there is none. The default route is found in the routing table, which costs more
// the longer that is.
func Find(netns, name string) (*Interface, error) {
	c, err := dialAt(netns)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var d *rtnl.Link
	if name == "" {
		if d, err = c.DefaultDevice(); err != nil {
			return nil, fmt.Errorf("find the default route's device: %w", err)
		}
	} else if d, err = c.LinkByName(name); iface.NotExist(err) {
		return nil, nil
	}
	if err != nil || d == nil {
		return nil, err
	}
	return &Interface{d.Name, d.MAC.String(), d.MTU}, nil
}

// dialAt opens a socket in the namespace of a path; in the host's when it is empty.
func dialAt(path string) (*iface.Conn, error) {
	if path == "" {
		return iface.Dial()
	}
	ns, err := netns.Open(path)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	return iface.DialNetns(ns)
}
