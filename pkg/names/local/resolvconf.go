package local

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// mark is the line in front of ours in a resolv.conf. What is behind them stays as it is: the
// agent asks these servers for all other names, and programs do while it does not run.
const mark = "# Berth, for names of containers ('berth host-names off' takes these two lines away):"

// insert makes the agent the first server of the host's resolv.conf. The others stay behind
// it, and nothing has to be given back to them.
func (h *Host) insert(at netip.AddrPort) error {
	if at.Port() != 53 {
		return fmt.Errorf("%s cannot name port %d: have the agent started with --host-names %s", confFile, at.Port(), at.Addr())
	}
	lines, err := h.lines()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(lines, func(line string) bool { return nameserver(line) == at.Addr().String() }) {
		h.Report(confFile + " names it already")
		return nil
	}
	lines, _ = withoutOurs(lines) // those of an agent that answered at another address
	first, servers := -1, 0
	for i, line := range lines {
		if nameserver(line) == "" {
			continue
		}
		if servers++; first < 0 {
			first = i
		}
	}
	if first < 0 {
		return fmt.Errorf("%s has no nameserver, which stands for one on this host: name that one first", confFile)
	}
	if err := h.put(slices.Insert(lines, first, mark, "nameserver "+at.Addr().String())); err != nil {
		return err
	}
	h.Report(fmt.Sprintf("made %s the first nameserver in %s, in front of %d", at.Addr(), confFile, servers))
	const most = 3 // MAXNS of resolv.h
	if servers >= most {
		h.Report(fmt.Sprintf("programs take the first %d nameservers: those behind them are asked by the agent alone", most))
	}
	return nil
}

// takeOut takes it away. A file that somebody has written again since has it no more.
func (h *Host) takeOut() error {
	lines, err := h.lines()
	if errors.Is(err, ErrManaged) || errors.Is(err, fs.ErrNotExist) {
		return nil // nor has insert written there
	}
	if err != nil {
		return err
	}
	rest, gone := withoutOurs(lines)
	if len(rest) == len(lines) {
		return nil
	}
	if err := h.put(rest); err != nil {
		return err
	}
	h.Report(fmt.Sprintf("took %q out of %s", strings.Join(gone, ""), confFile))
	return nil
}

// withoutOurs are the lines without those that insert has put there; gone are its
// nameservers.
func withoutOurs(lines []string) (rest, gone []string) {
	for i, line := range lines {
		switch {
		case line == mark:
		case i > 0 && lines[i-1] == mark && nameserver(line) != "":
			gone = append(gone, line)
		default:
			rest = append(rest, line)
		}
	}
	return rest, gone
}

// nameserver is the address that a line of a resolv.conf names; empty when it names none.
func nameserver(line string) string {
	if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
		return f[1]
	}
	return ""
}

// lines are those of the host's resolv.conf. One that is a link is another program's.
func (h *Host) lines() ([]string, error) {
	info, err := os.Lstat(h.path(confFile))
	if err != nil {
		return nil, err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		to, _ := os.Readlink(h.path(confFile))
		return nil, fmt.Errorf("%s is a link to %s: %w; docs/names.md says what to tell it", confFile, to, ErrManaged)
	}
	data, err := os.ReadFile(h.path(confFile))
	if err != nil {
		return nil, err
	}
	return strings.Split(string(data), "\n"), nil
}

// put writes the lines, so that no program reads half of them; in place where the file is
// mounted, as in a container. Whose the file is, and who may read it, stays as it is.
func (h *Host) put(lines []string) error {
	path, text := h.path(confFile), []byte(strings.Join(lines, "\n"))
	next := filepath.Join(filepath.Dir(path), ".resolv.conf.berth")
	info, err := os.Stat(path)
	if err == nil {
		err = writeAs(next, text, info)
	}
	if err == nil {
		err = os.Rename(next, path)
	}
	if err == nil {
		return nil
	}
	os.Remove(next)
	if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EROFS) {
		return fmt.Errorf("write %s: %w", confFile, err)
	}
	return os.WriteFile(path, text, 0o644)
}

// writeAs writes a file that belongs to whom another one does, and has its mode, whatever the
// umask. It is on the disk then.
func writeAs(name string, text []byte, as fs.FileInfo) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if owner, ok := as.Sys().(*syscall.Stat_t); ok && err == nil {
		err = f.Chown(int(owner.Uid), int(owner.Gid))
	}
	if err == nil {
		err = f.Chmod(as.Mode().Perm())
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
