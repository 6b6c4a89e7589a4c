package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The agent holds a lock for as long as it lives: whoever asks learns whether it
// does, and there is never a second one on a host.

// ErrAgentRuns: another agent holds the host's state.
var ErrAgentRuns = errors.New("another berth agent runs on this host")

func agentLock(stateDir string) string { return filepath.Join(stateDir, "agent.lock") }

// LockAgent takes the lock of the host's agent, for the life of the process or until
// unlock. [ErrAgentRuns] when another one has it.
func LockAgent(stateDir string) (unlock func(), err error) {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(agentLock(stateDir), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		f.Close()
		return nil, ErrAgentRuns
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", agentLock(stateDir), err)
	}
	return func() { f.Close() }, nil
}

// AgentRuns tells whether the agent of a state folder lives.
func AgentRuns(stateDir string) (bool, error) {
	f, err := os.Open(agentLock(stateDir))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	ask := unix.Flock_t{Type: unix.F_WRLCK}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &ask)
	return err == nil && ask.Type != unix.F_UNLCK, err
}
