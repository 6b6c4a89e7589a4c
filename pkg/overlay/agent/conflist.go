package agent

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

func conflist(dir string, n *network) string {
	return filepath.Join(dir, n.def().Name+".conflist")
}

// writeConflist has the runtimes of this host know the network. A file of that name
// that is there stays: somebody may have changed it.
func (a *Agent) writeConflist(n *network) error {
	if a.ConfDir == "" || n.local.Refused != "" {
		return nil
	}
	f := conflist(a.ConfDir, n)
	if _, err := os.Stat(f); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	tmp := f + ".new" // runtimes read *.conflist only
	if err := os.WriteFile(tmp, n.def().Conflist(), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, f)
}

// removeConflist removes the file, which the agent or a person had written, unless somebody
// changed it.
func (a *Agent) removeConflist(n *network) error {
	var errs []error
	for _, dir := range []string{a.ConfDir, a.NetDir} {
		if dir == "" {
			continue
		}
		data, err := os.ReadFile(conflist(dir, n))
		if err == nil && bytes.Equal(data, n.def().Conflist()) {
			err = os.Remove(conflist(dir, n))
		}
		if !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
