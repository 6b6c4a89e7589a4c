package network

import (
	"bytes"
	"context"
	"fmt"

	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/overlay"
)

// Install writes the conflist of a network that spans hosts, for this host's runtimes, and
// returns its path. One that is there already stays as it is; it is an error when it says
// something else.
func (h *Host) Install(ctx context.Context, n *overlay.Network) (path string, err error) {
	unlock, err := h.Dir.Lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	there, err := h.installed(n)
	if err != nil || there != "" {
		return there, err
	}
	return h.Dir.Path(n.Name), h.Dir.Write(n.Name, n.Conflist(overlay.Plugin, ""))
}

// CheckInstall tells why [Host.Install] would not write the network's conflist; nil: it would,
// or it is there.
func (h *Host) CheckInstall(n *overlay.Network) error {
	_, err := h.installed(n)
	return err
}

// installed is where the network's conflist is; empty: nowhere.
func (h *Host) installed(n *overlay.Network) (string, error) {
	files, _ := h.Dir.List() // what cannot be read is not of this name
	f := conflist.Find(files, n.Name)
	switch {
	case f == nil:
		return "", nil
	case f.Driver() != conflist.Overlay:
		return "", fmt.Errorf("%s is a network of this host with that name", f.Path)
	case !bytes.Equal(f.Data, n.Conflist(overlay.Plugin, "")):
		return "", fmt.Errorf("%s is there already, and says something else: remove it to have it written anew", f.Path)
	}
	return f.Path, nil
}
