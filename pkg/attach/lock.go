package attach

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

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

// lockKey has one process at a time work on an attachment: a range of one byte of
// the lock file, at an offset that is the key's hash (an open file description
// lock, kernel 3.15). Nothing is left of it when the process ends.
func (s *Store) lockKey(ctx context.Context, k Key) (unlock func(), err error) {
	return s.lockRange(ctx, keyOffset(k), 1, k.String())
}

func keyOffset(k Key) int64 { return int64(binary.BigEndian.Uint64(Digest(k.bytes())) >> 2) }

// Idle returns those of the attachments that no other call is about at the moment: what
// their steps make is there. It takes no lock, and waits for none.
func (s *Store) Idle(these []*Attachment) ([]*Attachment, error) {
	path := filepath.Join(s.dir, "lock")
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return these, nil // nobody has ever locked one
	}
	if err != nil {
		return nil, fmt.Errorf("open lock %s: %w", path, err)
	}
	defer unix.Close(fd)
	var idle []*Attachment
	for _, a := range these {
		l := unix.Flock_t{Type: unix.F_WRLCK, Start: keyOffset(a.Key), Len: 1}
		if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &l); err != nil {
			return nil, fmt.Errorf("ask for the lock of %s: %w", a.Key, err)
		}
		if l.Type == unix.F_UNLCK {
			idle = append(idle, a)
		}
	}
	return idle, nil
}

// lockKeys is [Store.lockKey] for all attachments at once.
func (s *Store) lockKeys(ctx context.Context) (unlock func(), err error) {
	const toEnd = 0
	return s.lockRange(ctx, 0, toEnd, "an attachment")
}

// lockRange takes some bytes of the lock file; what names whose they are.
func (s *Store) lockRange(ctx context.Context, start, n int64, what string) (unlock func(), err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state folder: %w", err)
	}
	path := filepath.Join(s.dir, "lock")
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock %s: %w", path, err)
	}
	wait := func(cmd int) error {
		return unix.FcntlFlock(uintptr(fd), cmd, &unix.Flock_t{Type: unix.F_WRLCK, Start: start, Len: n})
	}
	err = wait(unix.F_OFD_SETLK)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		done := make(chan error, 1)
		go func() { done <- restart(func() error { return wait(unix.F_OFD_SETLKW) }) }()
		select {
		case err = <-done:
		case <-ctx.Done():
			go func() { <-done; unix.Close(fd) }()
			return nil, fmt.Errorf("wait for another call about %s: %w", what, context.Cause(ctx))
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("lock %s: %w", what, err)
	}
	return func() { unix.Close(fd) }, nil
}

func flock(fd, how int) error { return restart(func() error { return unix.Flock(fd, how) }) }

// restart calls a system call again that a signal has interrupted.
func restart(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
