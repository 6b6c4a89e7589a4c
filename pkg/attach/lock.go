package attach

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// lock takes a flock(2) on the file, waiting in the kernel for as long as the
// context allows. The lock ends with unlock, or with the process.
func lock(ctx context.Context, path string, how int) (unlock func(), err error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock %s: %w", path, err)
	}
	err = unix.Flock(fd, how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		done := make(chan error, 1)
		go func() { done <- flock(fd, how) }()
		select {
		case err = <-done:
		case <-ctx.Done():
			go func() { <-done; unix.Close(fd) }() // or the lock is held for ever, once it is had
			return nil, fmt.Errorf("wait for lock %s: %w", path, context.Cause(ctx))
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { unix.Close(fd) }, nil
}

func flock(fd, how int) error {
	for {
		if err := unix.Flock(fd, how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
