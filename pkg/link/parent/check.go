package parent

import (
	"errors"
	"fmt"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
)

// Check tells whether the interface is up, on its master and in its mode, with its
// MAC, addresses and routes, or as is expected. A master's MAC may change, and its children's
// with it.
func (m *Child) Check(a *attach.Attachment) error {
	c, err := iface.DialIn(a.Netns)
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := m.find(c, a)
	if err != nil {
		return fmt.Errorf("in the container: %w", err)
	}
	outside, done, err := m.outside(c)
	if err != nil {
		return err
	}
	defer done()
	master, err := outside.LinkByName(m.Master)
	switch {
	case err != nil:
		return err
	case d.Kind != m.Kind || d.Alias != mark(a):
		return fmt.Errorf("interface %s in the container is not the attachment's %s", a.IfName, m.Kind)
	case d.Parent != m.below(master):
		return fmt.Errorf("interface %s in the container is not on %s", a.IfName, m.Master)
	case m.OwnMAC && m.AsRecorded() && d.MAC.String() != a.MAC:
		return fmt.Errorf("interface %s in the container has the MAC %s, not %s", a.IfName, d.MAC, a.MAC)
	}
	if err := m.InMode(d); err != nil {
		return fmt.Errorf("interface %s in the container is not in %w", a.IfName, err)
	}
	return m.CheckInside(c, d, a, true)
}

// below is the index of the interface that the kernel puts a child on: of a master that is
// itself an ipvlan, its master.
func (m *Child) below(master *rtnl.Link) int {
	if m.Kind == "ipvlan" && master.Kind == m.Kind {
		return master.Parent
	}
	return master.Index
}

// find returns the interface; by its mark, whatever the container calls it, where no more
// than its being there is expected.
func (m *Child) find(c *iface.Conn, a *attach.Attachment) (*rtnl.Link, error) {
	d, err := c.LinkByName(a.IfName)
	if err == nil && d.Alias == mark(a) || !m.OnlyThere() {
		return d, err
	}
	all, listed := c.Links()
	for _, other := range all {
		if other.Alias == mark(a) && other.Kind == m.Kind {
			return other, nil
		}
	}
	return d, errors.Join(err, listed)
}
