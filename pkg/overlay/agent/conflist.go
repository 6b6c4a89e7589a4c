package agent

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/berth-cni/berth/pkg/overlay"
)

// Runtimes is what runtimes of this host are told of overlay networks.
type Runtimes struct {
	// ConfDir is where a conflist is written for each network, NAME.conflist; empty: nowhere.
	ConfDir string
	// Default is the network that a runtime attaches containers to when nobody names one,
	// as Kubernetes' do: its conflist comes first in the folder. Empty: there is none.
	Default string
	// Plugin is the type that conflists name; empty: [overlay.Plugin].
	Plugin string
	// Mode is the plugin's that they name; empty: its own default.
	Mode string
	// Installed tells whether the plugin is where runtimes look. It is safe for concurrent
	// use; nil: somebody else sees to that.
	Installed func() bool
}

// path is the file of a network. Runtimes of Kubernetes take the first one in the order of
// the names, so that of the default network begins with a digit and all others with "net-".
func (r *Runtimes) path(network string) string {
	switch r.Default {
	case "":
		return filepath.Join(r.ConfDir, network+".conflist")
	case network:
		return filepath.Join(r.ConfDir, "10-berth-"+network+".conflist")
	}
	return filepath.Join(r.ConfDir, "net-"+network+".conflist")
}

func (r *Runtimes) text(n *network) []byte {
	return n.def().Conflist(cmp.Or(r.Plugin, overlay.Plugin), r.Mode)
}

// keepConflist has the runtimes of this host know the network once a container can be
// attached to it. A file that is there stays, if somebody has changed it; one that an
// agent wrote is replaced in one step when it is to say something else.
func (a *Agent) keepConflist(n *network) error {
	if a.ConfDir == "" || n.gone || n.plane == nil || n.broken != "" || n.local.Ready(a.StateDir) != nil {
		return nil
	}
	if a.Installed != nil && !a.Installed() {
		return errors.New("its plugin is not installed")
	}
	path, text := a.Runtimes.path(n.def().Name), a.text(n)
	data, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Equal(data, text): // it is there
	case err == nil && !a.wrote(n, data):
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read conflist: %w", err)
	default:
		if err := writeFile(path, text, 0o644); err != nil { // runtimes may run as somebody else
			return fmt.Errorf("write conflist: %w", err)
		}
		a.Log.Info("conflist written", "network", n.def().Name, "path", path)
	}
	if err := a.removeConflists(n, path); err != nil {
		return fmt.Errorf("remove conflist: %w", err)
	}
	return a.noteWritten(n, text) // last: by the one before, the other files are known as the agent's
}

// noteWritten keeps a copy of the conflist, by which the next version knows that nobody
// has changed it.
func (a *Agent) noteWritten(n *network, text []byte) error {
	if data, err := os.ReadFile(a.written(n)); err == nil && bytes.Equal(data, text) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(a.written(n)), 0o700); err != nil {
		return err
	}
	return writeFile(a.written(n), text, 0o600)
}

// written is the copy of the conflist that an agent of this host wrote last.
func (a *Agent) written(n *network) string {
	return filepath.Join(a.DataDir, "conflist", n.def().Name+".conflist")
}

// wrote tells whether an agent, or 'berth network install', wrote the file.
func (a *Agent) wrote(n *network, data []byte) bool {
	if bytes.Equal(data, n.def().Conflist(overlay.Plugin, "")) || bytes.Equal(data, a.text(n)) {
		return true
	}
	copied, err := os.ReadFile(a.written(n))
	return err == nil && bytes.Equal(data, copied)
}

// removeConflist removes what the agent or a person had written, unless somebody changed
// it.
func (a *Agent) removeConflist(n *network) error {
	err := a.removeConflists(n, "")
	if e := os.Remove(a.written(n)); !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}

// removeConflists removes the files of the network that the agent or a person had written,
// but one.
func (a *Agent) removeConflists(n *network, but string) error {
	name := n.def().Name
	var errs []error
	for _, r := range []Runtimes{
		{ConfDir: a.ConfDir, Default: name}, {ConfDir: a.ConfDir, Default: "-"}, {ConfDir: a.ConfDir}, {ConfDir: a.NetDir},
	} {
		path := r.path(name)
		if path == but || r.ConfDir == "" {
			continue
		}
		data, err := os.ReadFile(path)
		if err == nil && a.wrote(n, data) {
			err = os.Remove(path)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// writeFile makes the file, or replaces it in one step, and has it on the disk when it
// returns.
func writeFile(path string, data []byte, perm fs.FileMode) error {
	tmp := path + ".new" // runtimes read *.conflist only
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, perm)
	if err != nil {
		return err
	}
	defer os.Remove(tmp) // when it has not been renamed
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(perm), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
