package parent

import (
	"errors"
	"fmt"

	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"github.com/berth-cni/berth/pkg/link/netns"
	"golang.org/x/sys/unix"
)

// DialLocked opens a socket for a change of what attachments share, alone on this host
// until done, which closes the socket, too.
func DialLocked() (c *iface.Conn, done func(), err error) {
	if c, err = iface.Dial(); err != nil {
		return nil, nil, err
	}
	unlock, err := lockHost()
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, func() { unlock(); c.Close() }, nil
}

// lockHost keeps others from making or removing what attachments of this host
// share, until unlock, or the end of the process. The lock is a flock(2) on the
// network namespace itself.
func lockHost() (unlock func(), err error) {
	fd, err := unix.Open(netns.OwnPath, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", netns.OwnPath, err)
	}
	for {
		if err = unix.Flock(fd, unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("lock %s: %w", netns.OwnPath, err)
	}
	return func() { unix.Close(fd) }, nil
}
