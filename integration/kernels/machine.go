package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// said begins a line of the console that is the guest's own.
const said = "kernels: "

// over is what the guest says when all is written. The machine has [toPowerOff] from then on:
// user-mode Linux sometimes spins in its exit, after "System halted".
const (
	over       = "over"
	toPowerOff = 30 * time.Second
)

// machine is a virtual machine that is not started yet.
type machine struct {
	args    []string // of its process
	modules string   // the folder of its kernel's modules
}

// boot runs the machine until it powers off. What it writes to its console is in a file,
// and what the guest says is printed, too. All its processes end with it: they are in a
// namespace of their own for processes.
func (m *machine) boot(ctx context.Context, console string) error {
	file, err := os.Create(console)
	if err != nil {
		return err
	}
	defer file.Close()
	cmd := exec.CommandContext(ctx, m.args[0], m.args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Setsid: true, Pdeathsig: unix.SIGKILL}
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", m.args[0], err)
	}
	var spins atomic.Bool
	lines := bufio.NewScanner(io.TeeReader(out, file))
	for lines.Scan() {
		_, text, ok := strings.Cut(lines.Text(), said)
		switch text = strings.TrimSpace(text); {
		case ok && text == over:
			end := time.AfterFunc(toPowerOff, func() { spins.Store(true); _ = cmd.Process.Kill() })
			defer end.Stop()
		case ok:
			fmt.Println("  " + text)
		}
	}
	_, _ = io.Copy(file, out) // of a line that is too long
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case spins.Load():
		fmt.Printf("  it did not power off within %s of its tests' end, and was ended\n", toPowerOff)
	case err != nil:
		return fmt.Errorf("%s: %w", filepath.Base(m.args[0]), err)
	}
	return nil
}
