package parent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"golang.org/x/sys/unix"
)

// Subinterface is the step that ensures an interface of the host in a VLAN (IEEE
// 802.1Q), PARENT.VLAN, for containers to be on.
//
// One that was there is used and left. One that Berth made (its alias says so) goes
// with its last user. Each user's MAC is in its filter of MACs to receive, where the
// kernel puts a macvlan's MAC, too: an empty filter says that nobody is left. Users that
// have the interface's own MAC have one there for this alone.
type Subinterface struct {
	Parent string `json:"parent"`
	VLAN   int    `json:"vlan"` // 1 to 4094
	// SharedMAC says that the users have the interface's MAC.
	SharedMAC bool `json:"sharedMAC,omitempty"`
}

// user is the MAC by which the interface knows the attachment.
func (s *Subinterface) user(a *attach.Attachment) string {
	if s.SharedMAC {
		return iface.HashMAC("user", a.Hash()).String()
	}
	return a.MAC
}

// Kind implements [attach.Step].
func (s *Subinterface) Kind() string { return "subinterface" }

// Name is the interface's name.
func (s *Subinterface) Name() string { return fmt.Sprintf("%s.%d", s.Parent, s.VLAN) }

// Add makes the interface if there is none, and notes the attachment as its user.
func (s *Subinterface) Add(_ context.Context, a *attach.Adding) error {
	c, unlock, err := DialLocked()
	if err != nil {
		return err
	}
	defer unlock()
	d, err := c.LinkByName(s.Name())
	if iface.IsErrno(err, unix.ENODEV) {
		d, err = s.create(c)
	}
	if err != nil {
		return fmt.Errorf("VLAN interface %s: %w", s.Name(), err)
	}
	if d.Alias != iface.SharedAlias {
		return nil
	}
	if err := hold(c, d, s.user(a.Attachment)); err != nil {
		return errors.Join(err, release(c, d, s.user(a.Attachment)))
	}
	return nil
}

func (s *Subinterface) create(c *iface.Conn) (*rtnl.Link, error) {
	parent, err := c.LinkByName(s.Parent)
	if err != nil {
		return nil, err
	}
	id := func(data *netlink.Request) { data.Uint16(unix.IFLA_VLAN_ID, uint16(s.VLAN)) }
	// In one go, so that it is never there without saying whose it is.
	var b iface.Batch
	b.Add("add (kernel option VLAN_8021Q)",
		rtnl.NewLink(s.Name(), "vlan", 0, id).Uint32(unix.IFLA_LINK, uint32(parent.Index)))
	b.Add("mark", rtnl.SetLink(0, 0).Text(unix.IFLA_IFNAME, s.Name()).Bytes(unix.IFLA_IFALIAS, []byte(iface.SharedAlias)))
	if err := b.Run(c); err != nil {
		return nil, err
	}
	d, err := c.LinkByName(s.Name())
	if err != nil {
		return nil, err
	}
	if err := c.Send(rtnl.SetLink(d.Index, unix.IFF_UP)); err != nil {
		return nil, errors.Join(fmt.Errorf("set up: %w", err), c.DeleteLink(s.Name()))
	}
	return d, nil
}

// Del removes the attachment from the users, and an interface of ours that has no
// other.
func (s *Subinterface) Del(_ context.Context, a *attach.Attachment) error {
	c, unlock, err := DialLocked()
	if err != nil {
		return err
	}
	defer unlock()
	d, err := c.LinkByName(s.Name())
	if iface.NotExist(err) {
		return nil
	}
	if err != nil || d.Alias != iface.SharedAlias {
		return err
	}
	return release(c, d, s.user(a))
}

// Check tells whether the interface is there and up, and one that Berth made knows the
// attachment as its user: it may have gone with its parent, and been made again for
// another one.
func (s *Subinterface) Check(_ context.Context, a *attach.Attachment) error {
	c, err := iface.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := c.LinkByName(s.Name())
	switch {
	case err != nil:
		return err
	case d.Flags&unix.IFF_UP == 0:
		return fmt.Errorf("interface %s is down", d.Name)
	case d.Alias != iface.SharedAlias:
		return nil
	}
	all, err := c.FDB(nil, d.Index)
	if err == nil && !slices.ContainsFunc(all, func(e rtnl.FDBEntry) bool { return e.MAC.String() == s.user(a) }) {
		err = fmt.Errorf("interface %s does not receive for the MAC %s", d.Name, s.user(a))
	}
	return err
}

// hold adds a MAC to those that the device receives.
func hold(c *iface.Conn, d *rtnl.Link, mac string) error {
	req, err := filterMAC(unix.RTM_NEWNEIGH, d, mac)
	if err == nil {
		err = c.Send(req)
	}
	if err != nil && !iface.IsErrno(err, unix.EEXIST) {
		return fmt.Errorf("note MAC %s as a user of %s: %w", mac, d.Name, err)
	}
	return nil
}

// release takes a MAC from those that the device receives, and deletes the device
// if none is left.
func release(c *iface.Conn, d *rtnl.Link, mac string) error {
	req, err := filterMAC(unix.RTM_DELNEIGH, d, mac)
	if err == nil {
		err = c.Send(req)
	}
	if err != nil && !iface.IsErrno(err, unix.ENOENT) {
		return fmt.Errorf("remove MAC %s from %s: %w", mac, d.Name, err)
	}
	held, err := held(c, d)
	if err != nil || held {
		return err
	}
	return c.DeleteLink(d.Name)
}

func filterMAC(kind uint16, d *rtnl.Link, mac string) (*netlink.Request, error) {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return nil, err
	}
	flags := uint16(0)
	if kind == unix.RTM_NEWNEIGH {
		flags = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	}
	header := rtnl.Ndmsg(unix.AF_BRIDGE, d.Index, unix.NUD_PERMANENT, unix.NTF_SELF)
	return netlink.NewRequest(kind, flags, header).Bytes(unix.NDA_LLADDR, hw), nil
}

// held reports whether the device receives for a MAC that is not its own, multicast
// apart.
func held(c *iface.Conn, d *rtnl.Link) (bool, error) {
	all, err := c.FDB(nil, d.Index)
	if err != nil {
		return false, fmt.Errorf("list MACs of %s: %w", d.Name, err)
	}
	return slices.ContainsFunc(all, func(e rtnl.FDBEntry) bool { return e.MAC[0]&1 == 0 }), nil
}
