// Package local has this host's own resolver ask the agent for names of containers, and takes
// that away again.
package local

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/berth-cni/berth/pkg/names"
)

// The ways to have this host ask.
const (
	Auto       = "auto" // the one that the host's resolv.conf shows
	Resolved   = "systemd-resolved"
	ResolvConf = "resolv.conf"
)

// Host is where the resolver's files are, and its programs run.
type Host struct {
	Root string // of the files; empty: /
	// Run runs a program and returns what it writes.
	Run func(name string, args ...string) (string, error)
	// Report is told what was done.
	Report func(what string)
}

// Files of the resolvers. The last is for systemd 258 and later (systemd.dns-delegate(5)).
const (
	confFile     = "/etc/resolv.conf"
	dropIn       = "/etc/systemd/resolved.conf.d/berth.conf"
	delegateFile = "/etc/systemd/dns-delegate.d/berth.dns-delegate"

	delegates = 258
)

// ErrManaged is about a resolv.conf that is not to be edited.
var ErrManaged = errors.New("another program writes it")

func (h *Host) path(file string) string { return filepath.Join("/", h.Root, file) }

// On has the host ask an agent that answers at an address.
func (h *Host) On(way string, at netip.AddrPort) error {
	if way == Auto {
		way = ResolvConf
		if data, err := os.ReadFile(h.path(confFile)); err == nil && leadsToStub(string(data)) {
			way = Resolved
		}
	}
	if way == Resolved {
		return h.delegate(at)
	}
	return h.insert(at)
}

// leadsToStub tells whether a resolv.conf names a stub of systemd-resolved.
func leadsToStub(conf string) bool {
	for line := range strings.Lines(conf) {
		if server := nameserver(line); server == "127.0.0.53" || server == "127.0.0.54" {
			return true
		}
	}
	return false
}

// Off takes away what On has written, of all ways.
func (h *Host) Off() error {
	var errs []error
	restart := false
	for _, file := range []string{dropIn, delegateFile} {
		err := os.Remove(h.path(file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		h.Report("removed " + file)
		restart = true
	}
	if restart {
		errs = append(errs, h.restart())
	}
	return errors.Join(append(errs, h.takeOut())...)
}

// delegate has systemd-resolved ask the agent for the domain alone. Before systemd 258 the
// servers of a drop-in are among those for all names that no link has servers for: what is not
// under the domain the agent refuses, but where there are others of that kind these would be
// asked for the domain as well.
func (h *Host) delegate(at netip.AddrPort) error {
	version, err := h.version()
	if err != nil {
		return err
	}
	where := server(at)
	if version >= delegates {
		return h.write(delegateFile, fmt.Sprintf("[Delegate]\nDNS=%s\nDomains=%s\n", where, names.HostDomain))
	}
	if out, err := h.Run("resolvectl", "dns"); err == nil {
		for line := range strings.Lines(out) {
			if servers, ok := strings.CutPrefix(strings.TrimSpace(line), "Global:"); ok && strings.TrimSpace(servers) != "" && strings.TrimSpace(servers) != where {
				return fmt.Errorf("systemd-resolved has servers for all links already (DNS=%s), which it would ask for *.%s, too: give them to a link, or use --way %s",
					strings.TrimSpace(servers), names.HostDomain, ResolvConf)
			}
		}
	}
	return h.write(dropIn, fmt.Sprintf("[Resolve]\nDNS=%s\nDomains=~%s\n", where, names.HostDomain))
}

// server is an address as systemd writes it: with a port where that is not DNS's.
func server(at netip.AddrPort) string {
	if at.Port() == 53 {
		return at.Addr().String()
	}
	return at.String()
}

// version is systemd's.
func (h *Host) version() (int, error) {
	out, err := h.Run("resolvectl", "--version")
	if err != nil {
		return 0, fmt.Errorf("ask for the version of systemd-resolved: %w", err)
	}
	f := strings.Fields(out)
	if len(f) < 2 || f[0] != "systemd" {
		return 0, fmt.Errorf("ask for the version of systemd-resolved: resolvectl says %q", strings.TrimSpace(out))
	}
	digits, _, _ := strings.Cut(f[1], "~")
	return strconv.Atoi(digits)
}

// write writes a file of systemd-resolved's, which then reads it.
func (h *Host) write(file, text string) error {
	text = "# Written by 'berth host-names on'; 'berth host-names off' removes it.\n" + text
	if old, err := os.ReadFile(h.path(file)); err == nil && string(old) == text {
		h.Report(file + " is there already")
		return nil
	}
	if err := readable(h.path(file), text); err != nil {
		return err
	}
	h.Report("wrote " + file)
	return h.restart()
}

// readable writes a file that all may read, whatever the umask: systemd-resolved runs as a user
// of its own.
func readable(name, text string) error {
	dir := filepath.Dir(name)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	err := os.Mkdir(dir, 0o755)
	switch {
	case err == nil:
		err = os.Chmod(dir, 0o755)
	case errors.Is(err, fs.ErrExist):
		err = nil
	}
	if err == nil {
		err = os.WriteFile(name, []byte(text), 0o644)
	}
	if err == nil {
		err = os.Chmod(name, 0o644)
	}
	return err
}

// restart has systemd-resolved read its files: it cannot do that by itself before systemd 253.
func (h *Host) restart() error {
	if _, err := h.Run("systemctl", "restart", "systemd-resolved"); err != nil {
		return fmt.Errorf("restart systemd-resolved, which has not read that yet: %w", err)
	}
	h.Report("restarted systemd-resolved")
	return nil
}
