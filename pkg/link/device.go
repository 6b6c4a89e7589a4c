// Package link makes links by route netlink: bridges, veth pairs, their addresses
// and routes, and what belongs to them in /proc/sys. Its steps make the interface of
// an attachment.
//
// Nothing on the ADD path lists or dumps: links are asked for by name, and what
// may be there already is added and EEXIST taken for an answer. So the cost does
// not grow with the host, and an interrupted dump cannot happen.
package link

import (
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"golang.org/x/sys/unix"
)

// Delete deletes an interface of the host by name; nil when there is none.
func Delete(name string) error {
	c, err := iface.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	return c.DeleteLink(name)
}

// Up reports whether there is an interface of that name in the calling thread's
// namespace, and it is up.
func Up(name string) (bool, error) {
	c, err := iface.Dial()
	if err != nil {
		return false, err
	}
	defer c.Close()
	d, err := c.LinkByName(name)
	if iface.IsErrno(err, unix.ENODEV) {
		return false, nil
	}
	return err == nil && d.Up(), err
}

// Exists reports whether the host has an interface of that name.
func Exists(name string) (bool, error) {
	c, err := iface.Dial()
	if err != nil {
		return false, err
	}
	defer c.Close()
	_, err = c.LinkByName(name)
	if iface.NotExist(err) {
		return false, nil
	}
	return err == nil, err
}
