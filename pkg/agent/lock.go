package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errServed: another agent of this host answers for containers.
var errServed = errors.New("another berth agent answers for this host's containers")

// lockNames makes this process the one that answers for containers, until unlock. One
// that was started on demand gives way to one that was started as a service.
func lockNames(ctx context.Context, stateDir string, onDemand bool) (unlock func(), err error) {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make state folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(stateDir, "names.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	const patience, look = 5 * time.Second, 20 * time.Millisecond
	for end := time.Now().Add(patience); ; {
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if onDemand || !end.After(time.Now()) || ctx.Err() != nil || !askToEnd(f) {
			f.Close()
			return nil, errServed
		}
		time.Sleep(look)
	}
	who := strconv.Itoa(os.Getpid())
	if onDemand {
		who += " on-demand"
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, who)); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// askToEnd asks the holder of the lock to end, if it was started on demand.
func askToEnd(f *os.File) bool {
	data, err := io.ReadAll(io.NewSectionReader(f, 0, 64))
	who, onDemand := strings.CutSuffix(string(data), " on-demand")
	pid, bad := strconv.Atoi(who)
	if err != nil || bad != nil || pid <= 1 || !onDemand {
		return string(data) == "" // it has not said yet
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err == nil && strings.TrimSpace(string(comm)) == "berth" {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	return true
}
