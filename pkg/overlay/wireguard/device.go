package wireguard

import (
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
	c, err := rtnl.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	err = c.Send(rtnl.NewLink(name, kernelKind, 0, nil).Uint32(unix.IFLA_MTU, uint32(mtu)))
	if !errors.Is(err, unix.EOPNOTSUPP) {
		t.kind = kernelKind
		if err != nil {
			return fmt.Errorf("add WireGuard device %s: %w", name, err)
		}
		return nil
	}
	t.kind = tunKind
	if err := t.start(name, mtu); err != nil {
		return fmt.Errorf("add WireGuard device %s in user space, as the kernel has no WireGuard: %w", name, err)
	}
	return nil
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
		Files: []*os.File{null, null, null, said}, Sys: &syscall.SysProcAttr{Setsid: true}})
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
	conn, err := net.DialTimeout("unix", socketPath(name), patience)
	if err != nil {
		return nil // nobody listens
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	var owner *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		owner, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || credErr != nil {
		return errors.Join(err, credErr)
	}
	line, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(owner.Pid), "cmdline"))
	if err != nil {
		return nil // it has ended
	}
	if !slices.Contains(strings.Split(string(line), "\x00"), name) {
		return fmt.Errorf("process %d, which is not ours, has socket %s", owner.Pid, socketPath(name))
	}
	if err := unix.Kill(int(owner.Pid), unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end process %d, which has socket %s: %w", owner.Pid, socketPath(name), err)
	}
	for range 100 { // its device goes with it
		if unix.Kill(int(owner.Pid), 0) != nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}
