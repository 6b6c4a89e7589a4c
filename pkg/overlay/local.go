package overlay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// DefaultDataDir is where a host remembers what is its own in the overlay. It
// outlives a reboot: a host that boots while the store is away works.
const DefaultDataDir = "/var/lib/berth"

// DataDirEnv is the environment variable that names another folder, for tests.
const DataDirEnv = "BERTH_DATA_DIR"

// DataDir is the folder that the environment names, or [DefaultDataDir].
func DataDir() string {
	if dir := os.Getenv(DataDirEnv); dir != "" {
		return dir
	}
	return DefaultDataDir
}

// Identity is who the host is to the store.
type Identity struct {
	Node  string `json:"node"`
	Token string `json:"token"`
	// Hardware tells the machine from one that runs a copy of its disk.
	Hardware string `json:"hardware"`
	// Registered says that the store knows the node.
	Registered bool `json:"registered"`
	// Refused is why the store did not take the host for this node when it was last
	// asked; empty: it did.
	Refused string `json:"refused,omitempty"`
	// Instance is the run of the host ([Instance]) in which the identity was confirmed
	// last; empty in what an earlier version wrote.
	Instance string `json:"instance,omitempty"`
}

// What [Local.Refused] says where it is not about the host's identity: the first two at
// its beginning.
const (
	RefusedRemoved  = "it was removed"
	RefusedConflict = "it is in another network's way: "
	RefusedRoute    = "overlaps this host's route"
)

// Local is what an ADD needs to know of a network, and what an agent that starts
// while the store is away goes on with.
type Local struct {
	Network Network        `json:"network"`
	Node    string         `json:"node"`
	MTU     int            `json:"mtu"` // of the VXLAN device, bytes
	Blocks  []netip.Prefix `json:"blocks"`
	// Lost are blocks that were given to other hosts while containers here have
	// addresses of them.
	Lost []netip.Prefix `json:"lost,omitempty"`
	// Refused says why nothing may be added: the blocks may be another host's.
	Refused string `json:"refused,omitempty"`
	// Instance is that of the [Identity].
	Instance string `json:"instance,omitempty"`
}

// Ready tells why no container of this host, whose state folder it is, can be attached to
// the network; nil: one can.
func (l *Local) Ready(stateDir string) error {
	if l.Refused != "" {
		return fmt.Errorf("nothing can be added on this host: %s", l.Refused)
	}
	if err := l.confirmed(stateDir); err != nil {
		return err
	}
	for _, s := range l.Network.Subnets {
		if !slices.ContainsFunc(l.Blocks, s.Overlaps) {
			return fmt.Errorf("this host has no block of %s yet", s)
		}
	}
	return nil
}

func identityPath(dir string) string { return filepath.Join(dir, "node.json") }

func localPath(dir, network string) string {
	return filepath.Join(dir, "overlay", network+".json")
}

// ReadIdentity returns who the host is; [fs.ErrNotExist] when it is nobody yet.
func ReadIdentity(dir string) (Identity, error) {
	var id Identity
	return id, readJSON(identityPath(dir), &id)
}

// Write makes the identity outlive a reboot.
func (id Identity) Write(dir string) error { return writeJSON(identityPath(dir), id) }

// ReadLocal returns what the host knows of a network; [fs.ErrNotExist] when it
// knows none of that name.
func ReadLocal(dir, network string) (*Local, error) {
	if err := ValidName(network); err != nil {
		return nil, fmt.Errorf("network %q: %w", network, err)
	}
	var l Local
	if err := readJSON(localPath(dir, network), &l); err != nil {
		return nil, err
	}
	return &l, nil
}

// ListLocal returns what the host knows of all networks, in the order of their
// names. What cannot be read does not keep the others back: it is in the error,
// beside the list.
func ListLocal(dir string) ([]*Local, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "overlay"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []*Local
	errs := []error{err}
	for _, e := range entries {
		network, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		l, err := ReadLocal(dir, network)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, l)
	}
	return all, errors.Join(errs...)
}

// Write makes the file, or replaces it in one step. It does nothing when the file
// says the same.
func (l *Local) Write(dir string) error { return writeJSON(localPath(dir, l.Network.Name), l) }

// RemoveLocal forgets a network. It is no error when it is not known.
func RemoveLocal(dir, network string) error {
	err := os.Remove(localPath(dir, network))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("decode %s: %w", path, err)
	}
	return nil
}

// writeJSON replaces the file as a whole, and has it on the disk when it returns: a
// crash leaves the old one or the new one.
func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // when it has not been renamed
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
