package parent

import (
	"errors"
	"fmt"
	"strings"

	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"golang.org/x/sys/unix"
)

// ErrMaster: the kernel makes no such child on this interface.
var ErrMaster = errors.New("cannot be the master")

// ErrNoKind: the kernel has no such children.
var ErrNoKind = errors.New("this kernel has no")

// Explain says what the kernel means by its bare numbers.
func (m *Child) Explain(err error, master *rtnl.Link) error {
	refused := func(why string) error {
		return fmt.Errorf("%s %w of this %s: %s: %w", master.Name, ErrMaster, m.Kind, why, err)
	}
	switch {
	case iface.IsErrno(err, unix.EBUSY):
		return refused("it is a port of a bridge or a bond, or has children of another kind")
	case iface.IsErrno(err, unix.EINVAL):
		return refused(m.Refused(master))
	case iface.IsErrno(err, unix.EEXIST):
		return fmt.Errorf("left over from an attachment that is not on record; a DEL removes it: %w", err)
	case iface.IsErrno(err, unix.EOPNOTSUPP):
		return noKind(m.Kind, err)
	}
	return err
}

func noKind(kind string, err error) error {
	return fmt.Errorf("%w %s (CONFIG_%s): %w", ErrNoKind, kind, strings.ToUpper(kind), err)
}

// Supported tells whether the kernel has a kind of children: [ErrNoKind] when it has not. The
// question is a request for one on no master, which the kernel refuses in any case, having
// loaded the module that there may be for the kind.
func Supported(kind string) error {
	c, err := iface.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	err = c.Send(rtnl.NewLink(kind+"probe", kind, 0, nil))
	switch {
	case iface.IsErrno(err, unix.EOPNOTSUPP):
		return noKind(kind, err)
	case err == nil:
		return errors.Join(fmt.Errorf("the kernel makes an interface of kind %s on nothing", kind), c.DeleteLink(kind+"probe"))
	}
	return nil
}
