package link

import (
	"fmt"

	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"golang.org/x/sys/unix"
)

// deleteLink deletes a link by name; nil when there is none. A veth takes its
// other end with it.
func (c *conn) deleteLink(name string) error {
	if err := c.Send(rtnl.DeleteLinkNamed(name)); err != nil && !isErrno(err, unix.ENODEV) {
		return fmt.Errorf("delete interface %s: %w", name, err)
	}
	return nil
}

// Delete deletes an interface of the host by name; nil when there is none.
func Delete(name string) error {
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.close()
	return c.deleteLink(name)
}

// Up reports whether there is an interface of that name in the calling thread's
// namespace, and it is up.
func Up(name string) (bool, error) {
	c, err := dial()
	if err != nil {
		return false, err
	}
	defer c.close()
	d, err := c.LinkByName(name)
	if isErrno(err, unix.ENODEV) {
		return false, nil
	}
	return err == nil && d.Up(), err
}

// Exists reports whether the host has an interface of that name.
func Exists(name string) (bool, error) {
	c, err := dial()
	if err != nil {
		return false, err
	}
	defer c.close()
	_, err = c.LinkByName(name)
	if notExist(err) {
		return false, nil
	}
	return err == nil, err
}
