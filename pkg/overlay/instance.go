package overlay

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// InstancePath is the file that names this run of the host, since it booted: it is on
// tmpfs, which no copy of a disk has.
func InstancePath(stateDir string) string { return filepath.Join(stateDir, "agent-instance") }

// Instance returns the name of this run of the host; empty when no agent has run since it
// booted.
func Instance(stateDir string) (string, error) {
	data, err := os.ReadFile(InstancePath(stateDir))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(data), err
}

var errUnconfirmed = errors.New("nothing can be added on this host: since it booted no agent has confirmed that the blocks are its own, " +
	"and not those of another host, of whose disk it has a copy: does 'berth agent' run?")

// confirmed tells why the host must not use its blocks yet; nil: it may. An agent confirms
// them once in each run of the host.
func (l *Local) confirmed(stateDir string) error {
	if l.Instance == "" { // of an earlier version
		return nil
	}
	now, err := Instance(stateDir)
	if err == nil && now != l.Instance {
		err = errUnconfirmed
	}
	return err
}
