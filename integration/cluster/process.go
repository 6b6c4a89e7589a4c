package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Process is a program that runs on a host until it ends, is stopped, or the host
// is closed. Its methods may be called concurrently, and after its end.
type Process struct {
	Pid  int
	name string
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{} // closed at the end; err is written before
	err  error
}

// logDir is where on its host a process's log is.
const logDir = "/run/log"

// patience is how long a program has to end by itself after SIGTERM.
const patience = 30 * time.Second

// Start runs a program on the host. What it writes is in [Process.Log]. It is killed
// when this process ends, however that may be.
func (h *Host) Start(name string, args ...string) (*Process, error) {
	p, err := start(h.Do, dieWithUs(), name, args)
	if err != nil {
		return nil, fmt.Errorf("start %s on host %s: %w", name, h.Name, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.processes = append(h.processes, p)
	return p, nil
}

// Here starts programs in the namespaces of the calling process, which has a /run of its
// own, as [Host.Start] does. The caller ends them.
type Here struct{}

// Start: see [Host.Start].
func (Here) Start(name string, args ...string) (*Process, error) {
	if err := os.MkdirAll(logDir, 0o755); err != nil {
		return nil, err
	}
	p, err := start(func(fn func() error) error { return fn() }, dieWithUs(), name, args)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// StartIn starts a program by do, which calls what it is given in the program's namespaces,
// on a thread of its own or the caller's. They have a PID namespace of their own, whose end
// is the program's: the kernel does not tie it to this process. There is a folder /run/log.
func StartIn(do func(func() error) error, name string, args ...string) (*Process, error) {
	return start(do, nil, name, args)
}

// dieWithUs has the kernel kill a program with the thread that started it, which waits, too.
// It cannot do so across PID namespaces: os/exec takes its parent for dead there.
func dieWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// start starts a program on a thread that is where it belongs.
func start(do func(func() error) error, attr *syscall.SysProcAttr, name string, args []string) (*Process, error) {
	p := &Process{name: name, cmd: exec.Command(name, args...), done: make(chan struct{})}
	p.cmd.SysProcAttr = attr
	started := make(chan error, 1)
	go func() {
		defer close(p.done)
		p.err = do(func() error {
			runtime.LockOSThread()
			err := p.start()
			started <- err
			if err != nil {
				return err
			}
			return p.cmd.Wait()
		})
	}()
	return p, <-started
}

func (p *Process) start() (err error) {
	if p.log, err = os.CreateTemp(logDir, filepath.Base(p.name)+"-*.log"); err != nil {
		return err
	}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.Pid = p.cmd.Process.Pid
	return nil
}

// Signal sends a signal; none to a process that has ended.
func (p *Process) Signal(s os.Signal) {
	_ = p.cmd.Process.Signal(s) // the only error is that it ended
}

// Pause stops the process where it is, as a host does that hangs; [Process.Resume] has it
// go on.
func (p *Process) Pause() { p.Signal(syscall.SIGSTOP) }

// Resume: see [Process.Pause].
func (p *Process) Resume() { p.Signal(syscall.SIGCONT) }

// Stop asks the process to end, and returns how it did: nil for exit code 0. One that
// does not within ten seconds is killed, which is an error.
func (p *Process) Stop() error {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return p.err
	case <-time.After(patience):
		p.Kill()
		return fmt.Errorf("%s (process %d) did not end within %v of SIGTERM", p.name, p.Pid, patience)
	}
}

// Kill sends SIGKILL and waits for the end.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Running says whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Log is what the process has written, on both streams.
func (p *Process) Log() string {
	st, err := p.log.Stat()
	if err != nil {
		return err.Error()
	}
	data := make([]byte, st.Size())
	n, _ := p.log.ReadAt(data, 0)
	return string(data[:n])
}

// Tail is the end of the log, for errors.
func (p *Process) Tail() string {
	lines := strings.Split(strings.TrimSpace(p.Log()), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// Until calls ok every few milliseconds, and returns nil once that does, or its last
// error after the time given.
func Until(within time.Duration, ok func() error) error {
	for end := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		err := ok()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("not within %v: %w", within, err)
		}
	}
}
