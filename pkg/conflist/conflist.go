// Package conflist is the folder of a host's networks: CNI configurations, which every
// runtime of the host reads. It lists those of all authors, and makes and removes
// those of networks of one host.
//
// What a person asks for is a [Spec]; [Spec.Plan] checks it against what is there and
// gives the [Conflist], which is written in one step. Two programs that do so at the
// same time hold [Dir.Lock] for as long as that takes.
package conflist

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Default is where runtimes look.
const Default = "/etc/cni/net.d"

// Env is the environment variable that names another folder, as for cnitool.
const Env = "NETCONFPATH"

// Dir is the folder's path. It need not be there.
type Dir string

// Lock makes the caller the only one that makes or removes networks, until unlock or
// the end of the process. It makes the folder, and waits as long as the context allows.
func (d Dir) Lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(string(d), 0o755); err != nil {
		return nil, fmt.Errorf("make folder of networks: %w", err)
	}
	fd, err := unix.Open(string(d), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", d, err)
	}
	done := make(chan error, 1)
	go func() {
		err := unix.Flock(fd, unix.LOCK_EX)
		for errors.Is(err, unix.EINTR) {
			err = unix.Flock(fd, unix.LOCK_EX)
		}
		done <- err
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		go func() { <-done; unix.Close(fd) }() // or the lock is held for ever, once it is had
		return nil, fmt.Errorf("wait for lock of %s: %w", d, context.Cause(ctx))
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("lock %s: %w", d, err)
	}
	return func() { unix.Close(fd) }, nil
}

// Path is the file of a network that this package writes.
func (d Dir) Path(network string) string { return filepath.Join(string(d), network+extension) }

const extension = ".conflist"

// Write makes the file of a network, or replaces it, in one step: who reads the folder
// sees all of it or nothing. The caller holds the lock.
func (d Dir) Write(network string, data []byte) error {
	if err := d.write(d.Path(network), data); err != nil {
		return fmt.Errorf("write network %s: %w", network, err)
	}
	return nil
}

func (d Dir) write(path string, data []byte) error {
	tmp := filepath.Join(string(d), ".berth.new") // no runtime reads this; the next write takes it
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil { // runtimes may run as somebody else
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return d.sync()
}

// Remove removes the file of a network.
func (d Dir) Remove(f *File) error {
	err := os.Remove(f.Path)
	if err == nil {
		err = d.sync()
	}
	if err != nil {
		return fmt.Errorf("remove network %s: %w", f.Name, err)
	}
	return nil
}

// sync has the folder's entries outlive a power cut.
func (d Dir) sync() error {
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Restore undoes Remove. The caller has held the lock since then.
func (d Dir) Restore(f *File) error {
	if err := d.write(f.Path, f.Data); err != nil {
		return fmt.Errorf("restore network %s: %w", f.Name, err)
	}
	return nil
}
