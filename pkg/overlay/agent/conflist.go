package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Conflist is the CNI configuration of an overlay network, for a runtime's folder.
func Conflist(network string) []byte {
	data, err := json.MarshalIndent(map[string]any{
		"cniVersion": "1.0.0", "cniVersions": []string{"1.0.0", "1.1.0"}, "name": network,
		"plugins": []any{map[string]any{
			"type": "vxlan-overlay", "capabilities": map[string]bool{"portMappings": true, "ips": true, "mac": true},
		}},
	}, "", "  ")
	if err != nil {
		panic(err) // it is made of strings
	}
	return append(data, '\n')
}

func (a *Agent) conflist(n *network) string {
	return filepath.Join(a.ConfDir, n.def().Name+".conflist")
}

// writeConflist has the runtimes of this host know the network. A file of that name
// that is there stays: somebody may have changed it.
func (a *Agent) writeConflist(n *network) error {
	if a.ConfDir == "" || n.local.Refused != "" {
		return nil
	}
	f := a.conflist(n)
	if _, err := os.Stat(f); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	tmp := f + ".new" // runtimes read *.conflist only
	if err := os.WriteFile(tmp, Conflist(n.def().Name), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, f)
}

// removeConflist removes the file unless somebody changed it.
func (a *Agent) removeConflist(n *network) error {
	if a.ConfDir == "" {
		return nil
	}
	data, err := os.ReadFile(a.conflist(n))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !bytes.Equal(data, Conflist(n.def().Name)) {
		return err
	}
	return os.Remove(a.conflist(n))
}
