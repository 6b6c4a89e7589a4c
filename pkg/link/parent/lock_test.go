package parent

import (
	"errors"
	"testing"

	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/nstest"
	"golang.org/x/sys/unix"
)

// One at a time changes what attachments share; the lock ends with unlock.
func TestLockHost(t *testing.T) {
	nstest.Host(t)
	unlock, err := lockHost()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(netns.OwnPath, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("a second lock: %v", err)
	}
	unlock()
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("after unlock: %v", err)
	}
}
