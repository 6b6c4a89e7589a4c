package local

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// machine is a host with files of its own, and resolvectl and systemctl as they answer there.
type machine struct {
	Host
	t        *testing.T
	version  string
	servers  string // as `resolvectl dns` lists them
	restarts int
	said     []string
}

func newMachine(t *testing.T) *machine {
	m := &machine{t: t, version: "systemd 252 (252.39-1~deb12u2)\n+PAM", servers: "Global:\nLink 2 (eth0): 192.0.2.53\n"}
	m.Root = t.TempDir()
	m.Report = func(what string) { m.said = append(m.said, what) }
	m.Run = func(name string, args ...string) (string, error) {
		switch line := name + " " + strings.Join(args, " "); line {
		case "resolvectl --version":
			return m.version, nil
		case "resolvectl dns":
			return m.servers, nil
		case "systemctl restart systemd-resolved":
			m.restarts++
			return "", nil
		default:
			return "", errors.New("no such program: " + line)
		}
	}
	return m
}

func (m *machine) write(file, text string) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.path(file)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.path(file), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// expect compares a file; empty: there is none.
func (m *machine) expect(file, want string) {
	m.t.Helper()
	data, err := os.ReadFile(m.path(file))
	if err != nil && !errors.Is(err, fs.ErrNotExist) || string(data) != want {
		m.t.Errorf("%s: got %q, want %q, %v", file, data, want, err)
	}
}

var at = netip.MustParseAddrPort("127.0.0.55:53")

// stub is what a resolv.conf has that leads to systemd-resolved.
const stub = "nameserver 127.0.0.53\noptions edns0 trust-ad\n"

func TestResolved(t *testing.T) {
	const head = "# Written by 'berth host-names on'; 'berth host-names off' removes it.\n"
	for version, want := range map[string]struct{ file, text string }{
		"systemd 252 (252.39-1~deb12u2)\n":   {dropIn, head + "[Resolve]\nDNS=127.0.0.55:5300\nDomains=~berth\n"},
		"systemd 257~rc1 (257~rc1)\n":        {dropIn, head + "[Resolve]\nDNS=127.0.0.55:5300\nDomains=~berth\n"},
		"systemd 258 (258.1-2)\n+PAM +AUDIT": {delegateFile, head + "[Delegate]\nDNS=127.0.0.55:5300\nDomains=berth\n"},
	} {
		m := newMachine(t)
		m.version = version
		m.write(confFile, stub)
		for range 2 { // the second time there is nothing to do
			if err := m.On(Auto, netip.AddrPortFrom(at.Addr(), 5300)); err != nil {
				t.Fatal(err)
			}
		}
		m.expect(want.file, want.text)
		m.expect(confFile, stub)
		if m.restarts != 1 {
			t.Errorf("%s: restarted %d times", version, m.restarts)
		}
		m.said = nil
		if err := m.Off(); err != nil || m.restarts != 2 || strings.Join(m.said, ", ") != "removed "+want.file+", restarted systemd-resolved" {
			t.Errorf("%v, %d, %q", err, m.restarts, m.said)
		}
		m.expect(want.file, "")
		m.said = nil
		if err := m.Off(); err != nil || len(m.said) > 0 || m.restarts != 2 {
			t.Errorf("again: %v, %q", err, m.said)
		}
	}
}

// TestResolvedHasOthers: systemd-resolved would ask the servers for all links for the domain.
func TestResolvedHasOthers(t *testing.T) {
	m := newMachine(t)
	m.servers = "Global: 192.0.2.53 192.0.2.54\nLink 2 (eth0):\n"
	m.write(confFile, stub)
	if err := m.On(Auto, at); err == nil || !strings.Contains(err.Error(), "192.0.2.53 192.0.2.54") {
		t.Errorf("%v", err)
	}
	m.expect(dropIn, "")
	m.servers = "Global: 127.0.0.55\n" // ours, of before
	if err := m.On(Resolved, at); err != nil {
		t.Error(err)
	}
	m.version = "resolvectl 7"
	if err := m.On(Resolved, at); err == nil {
		t.Error("a version that nobody knows is taken")
	}
}

func TestResolvConf(t *testing.T) {
	m := newMachine(t)
	const before = "# by hand\nsearch corp\nnameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n"
	const ours = mark + "\nnameserver 127.0.0.55\n"
	m.write(confFile, before)
	for range 2 {
		if err := m.On(Auto, at); err != nil {
			t.Fatal(err)
		}
	}
	m.expect(confFile, strings.Replace(before, "nameserver", ours+"nameserver", 1))
	if len(m.said) != 3 || !strings.Contains(m.said[1], "asked by the agent alone") {
		t.Errorf("%q", m.said)
	}
	if err := m.Off(); err != nil {
		t.Error(err)
	}
	m.expect(confFile, before)
	m.said = nil
	if err := m.Off(); err != nil || len(m.said) > 0 {
		t.Errorf("%v, %q", err, m.said)
	}

	other := netip.MustParseAddrPort("127.0.0.56:53")
	for _, now := range []netip.AddrPort{at, other} { // where the agent answers has changed
		if err := m.On(Auto, now); err != nil {
			t.Error(err)
		}
	}
	m.expect(confFile, strings.Replace(before, "nameserver", mark+"\nnameserver 127.0.0.56\nnameserver", 1))
	if err := m.Off(); err != nil {
		t.Error(err)
	}
	m.expect(confFile, before)

	m.On(Auto, at)
	m.write(confFile, "nameserver 198.51.100.1\n") // a DHCP client
	if err := m.Off(); err != nil {
		t.Error(err)
	}
	m.expect(confFile, "nameserver 198.51.100.1\n")
	if left, err := os.ReadDir(filepath.Dir(m.path(confFile))); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestUmask: who could read a file still can, under any umask of the person's.
func TestUmask(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077))
	mode := func(m *machine, file string) fs.FileMode {
		t.Helper()
		info, err := os.Stat(m.path(file))
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	m := newMachine(t)
	m.write(confFile, "# nameserver 127.0.0.53\nnameserver 192.0.2.1\n")
	for _, want := range []fs.FileMode{0o644, 0o664} {
		if err := errors.Join(os.Chmod(m.path(confFile), want), m.On(Auto, at)); err != nil {
			t.Fatal(err)
		}
		if got := mode(m, confFile); got != want {
			t.Errorf("%s has mode %o, had %o", confFile, got, want)
		}
		if err := m.Off(); err != nil || mode(m, confFile) != want {
			t.Errorf("off: mode %o, %v", mode(m, confFile), err)
		}
	}
	m.expect(dropIn, "")
	if err := m.On(Resolved, at); err != nil {
		t.Fatal(err)
	}
	if file, dir := mode(m, dropIn), mode(m, filepath.Dir(dropIn)); file != 0o644 || dir != 0o755 {
		t.Errorf("%s has mode %o, its directory %o", dropIn, file, dir)
	}
}

// TestResolvConfRefused: nothing is written where it would not last, or would mislead.
func TestResolvConfRefused(t *testing.T) {
	m := newMachine(t)
	if err := m.On(Auto, at); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	m.write(confFile, "search corp\n")
	if err := m.On(Auto, at); err == nil || !strings.Contains(err.Error(), "no nameserver") {
		t.Errorf("%v", err)
	}
	m.write(confFile, "nameserver 192.0.2.1\n")
	if err := m.On(Auto, netip.AddrPortFrom(at.Addr(), 5300)); err == nil || !strings.Contains(err.Error(), "cannot name port 5300") {
		t.Errorf("%v", err)
	}
	m.expect(confFile, "nameserver 192.0.2.1\n")
	m.write("/run/NetworkManager/resolv.conf", "nameserver 192.0.2.1\n")
	if err := errors.Join(os.Remove(m.path(confFile)), os.Symlink("../run/NetworkManager/resolv.conf", m.path(confFile))); err != nil {
		t.Fatal(err)
	}
	if err := m.On(Auto, at); !errors.Is(err, ErrManaged) || !strings.Contains(err.Error(), "NetworkManager") {
		t.Errorf("%v", err)
	}
	if err := m.Off(); err != nil {
		t.Error(err)
	}
	m.expect("/run/NetworkManager/resolv.conf", "nameserver 192.0.2.1\n")
}
