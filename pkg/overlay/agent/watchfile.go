package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// settle is how long a file may go on changing before it is looked at, and how long
// apart two looks are.
const settle = 200 * time.Millisecond

// watchFile calls fn some time after the file was written, until the context ends
// (inotify(7)). Many changes are one call.
func watchFile(ctx context.Context, dir, name string, fn func()) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO); err != nil {
		unix.Close(fd)
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	defer events.Close()
	stop := context.AfterFunc(ctx, func() { events.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 64<<10)
	for {
		n, err := events.Read(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
		if !mentions(buf[:n], name) {
			continue
		}
		sleep(ctx, settle)
		for { // what came meanwhile is the same change
			events.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := events.Read(buf); err != nil {
				if !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
					return nil
				}
				break
			}
		}
		events.SetReadDeadline(time.Time{})
		if ctx.Err() != nil {
			return nil
		}
		fn()
	}
}

// mentions tells whether an event is about a file of that name (linux/inotify.h).
func mentions(events []byte, name string) bool {
	for len(events) >= unix.SizeofInotifyEvent {
		size := int(uint32(events[12]) | uint32(events[13])<<8 | uint32(events[14])<<16 | uint32(events[15])<<24)
		events = events[unix.SizeofInotifyEvent:]
		if size > len(events) {
			return false
		}
		file := events[:size]
		for len(file) > 0 && file[len(file)-1] == 0 {
			file = file[:len(file)-1]
		}
		if string(file) == name {
			return true
		}
		events = events[size:]
	}
	return false
}
