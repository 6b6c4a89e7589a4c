package wireguard

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"golang.org/x/sys/unix"
)

// Make is of [vxlan.Tunnel].
func (t *Tunnel) Make(name string, mtu int) error {
	clear(t.endpoints)
	clear(t.added)
	t.silent = 0
	if !t.UserSpace {
		err := inKernel(name, mtu)
		if err == nil {
			t.kind = kernelKind
		}
		if !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
	}
	t.kind = tunKind
	if err := t.start(name, mtu); err != nil {
		return fmt.Errorf("add WireGuard device %s in user space, as the kernel has no WireGuard: %w", name, err)
	}
	return nil
}

// inKernel makes a device of the kernel's; EOPNOTSUPP where it has no WireGuard.
func inKernel(name string, mtu int) error {
	c, err := rtnl.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Send(rtnl.NewLink(name, kernelKind, 0, nil).Uint32(unix.IFLA_MTU, uint32(mtu))); err != nil {
		return fmt.Errorf("add WireGuard device %s: %w", name, err)
	}
	return nil
}

// look finds out of what kind a device is.
func (t *Tunnel) look(name string) error {
	c, err := rtnl.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	l, err := c.LinkByName(name)
	if err == nil {
		t.kind = l.Kind
	}
	return err
}

// starting is how long a process may take until its device is there.
const starting = 10 * time.Second

// start starts the process that has the device, and waits until it is there. The
// process is the leader of a session of its own, and outlives this one.
func (t *Tunnel) start(name string, mtu int) error {
	if len(t.Command) == 0 {
		return errors.New("no command for it is given")
	}
	if err := endOf(name); err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	report, said, err := os.Pipe()
	if err != nil {
		return err
	}
	defer report.Close()
	args := slices.Concat(t.Command, []string{"--mtu", fmt.Sprint(mtu), name})
	p, err := os.StartProcess(args[0], args, &os.ProcAttr{Dir: "/", Env: os.Environ(),
		Files: []*os.File{null, said, null}, Sys: &syscall.SysProcAttr{Setsid: true}})
	said.Close()
	if err != nil {
		return err
	}
	go func() { _, _ = p.Wait() }() // no zombie
	_ = report.SetReadDeadline(time.Now().Add(starting))
	text, err := io.ReadAll(report)
	if err == nil && string(text) != ready {
		err = errors.New(strings.TrimSpace(string(text)))
	}
	if err != nil {
		_ = p.Kill()
		return fmt.Errorf("start %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// endOf ends the process that had a device of the name and has its socket yet: one that
// hangs, or that was not done when its device was deleted.
func endOf(name string) error {
	pid, err := owner(name)
	if err != nil || pid == 0 {
		return err
	}
	line, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "cmdline"))
	if err != nil {
		return nil // it has ended
	}
	if !slices.Contains(strings.Split(string(line), "\x00"), name) {
		return fmt.Errorf("process %d, which is not ours, has socket %s", pid, socketPath(name))
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end process %d, which has socket %s: %w", pid, socketPath(name), err)
	}
	for range 100 { // its device goes with it
		if unix.Kill(pid, 0) != nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// stopped tells whether the process that has a device is stopped (by a signal, or a
// debugger).
func stopped(name string) bool {
	pid, err := owner(name)
	if err != nil || pid == 0 {
		return false
	}
	line, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "stat"))
	state := line[bytes.LastIndexByte(line, ')')+1:]
	return err == nil && (bytes.HasPrefix(state, []byte(" T")) || bytes.HasPrefix(state, []byte(" t")))
}

// owner is the process that listens on a device's socket; 0: nobody does.
func owner(name string) (int, error) {
	conn, err := net.DialTimeout("unix", socketPath(name), patience)
	if err != nil {
		return 0, nil // nobody listens
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, credErr); err != nil {
		return 0, fmt.Errorf("owner of socket %s: %w", socketPath(name), err)
	}
	return int(cred.Pid), nil
}
