package names

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"golang.org/x/sys/unix"
)

const (
	startTime  = 5 * time.Second
	startEvery = 5 * time.Millisecond
	// againAfter is when another agent is started in place of one that has ended
	// without an answer: it may have met the one before it, which was about to end.
	// systemd-run ends well before the agent answers.
	againAfter     = 100 * time.Millisecond
	againAfterUnit = time.Second

	unit = "berth-agent-on-demand"
)

// Start starts the host's agent, as `berth agent --on-demand`, and returns when one
// answers: this one, or one that somebody else has started meanwhile. Of many
// callers one starts it, the others wait. It takes five seconds at most.
//
// It is the only fork of the suite beside a delegated IPAM's, and only when no agent
// runs. Where systemd is, the agent is a unit of its own: it would end with the
// runtime's else.
func Start(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, errors.New("it took more than "+startTime.String()))
	defer cancel()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make state folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "agent.start"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open start lock: %w", err)
	}
	defer lock.Close() // ends the lock; the agent does not inherit it
	var s starter
	for {
		_, err := Call(context.WithoutCancel(ctx), dir, Request{Do: DoStatus})
		if err == nil {
			return nil
		}
		// One that does not answer is reading its records.
		if errors.Is(err, ErrNoAgent) && (s.mine || unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil) {
			s.mine = true
			if err := s.spawn(dir); err != nil {
				return fmt.Errorf("start the agent: %w", err)
			}
		}
		select {
		case <-time.After(startEvery):
		case <-ctx.Done():
			return fmt.Errorf("start the agent: %w: %w%s", err, context.Cause(ctx), s.said())
		}
	}
}

// starter is the caller who has the lock.
type starter struct {
	mine    bool
	cmd     *exec.Cmd
	agent   string // path of the program; cmd may be systemd-run
	since   time.Time
	running bool
	ended   chan error
	last    error // of one that has ended
}

// spawn starts an agent, unless the last one may still come up.
func (s *starter) spawn(dir string) error {
	if !s.over() {
		return nil
	}
	path, err := find()
	if err != nil {
		return err
	}
	s.agent = path
	s.cmd, s.since, s.ended, s.running = command(path, dir), time.Now(), make(chan error, 1), true
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("run %s: %w", s.cmd.Path, err)
	}
	go func(c *exec.Cmd, ended chan error) { ended <- c.Wait() }(s.cmd, s.ended)
	return nil
}

// over reports whether it is time to start an agent: the first one, or the next.
func (s *starter) over() bool {
	if s.cmd == nil {
		return true
	}
	if s.running {
		select {
		case s.last = <-s.ended:
			s.running = false
		default:
			return false
		}
	}
	if s.cmd.Path != s.agent {
		return time.Since(s.since) >= againAfterUnit
	}
	return time.Since(s.since) >= againAfter
}

func (s *starter) said() string {
	if s.cmd == nil {
		return ", while another process starts one"
	}
	text := fmt.Sprintf(", after %q", s.cmd.Args)
	if s.last != nil {
		text += fmt.Sprintf(", which ended: %v", s.last)
	}
	return text + "; run it to see why"
}

// Available tells whether an ADD could have names registered: an agent answers, or the
// program is there that would be one.
func Available(ctx context.Context) error {
	_, err := Call(ctx, attach.New("", nil).Dir(), Request{Do: DoStatus})
	if errors.Is(err, ErrNoAgent) {
		_, err = find()
	}
	return err
}

// find looks for the program beside the plugin, then on PATH.
func find() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	beside := filepath.Join(filepath.Dir(self), "berth")
	if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
		return beside, nil
	}
	path, err := exec.LookPath("berth")
	if err != nil {
		return "", fmt.Errorf("the program berth is neither %s, beside the plugin, nor on PATH: "+
			"install it there, or run `berth agent` as a service", beside)
	}
	return filepath.Abs(path)
}

// command is what starts the agent. Nothing of the runtime's goes with it: not its
// folder, standard streams, session, or the CNI_ variables.
func command(path, dir string) *exec.Cmd {
	env := []string{attach.DirEnv + "=" + dir, "PATH=" + os.Getenv("PATH")}
	agent := []string{path, "agent", "--on-demand"}
	if systemd, err := exec.LookPath("systemd-run"); err == nil && canHandOver() {
		run := []string{systemd, "--quiet", "--collect", "--unit=" + unit, "--description=Berth agent, started on demand",
			"--property=Restart=on-failure", "--property=RestartSec=200ms"} // killed: nobody else starts one before the next ADD
		for _, e := range env {
			run = append(run, "--setenv="+e)
		}
		agent = append(run, agent...)
		env = os.Environ()
	}
	return &exec.Cmd{Path: agent[0], Args: agent, Env: env, Dir: "/", SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
}

// canHandOver tells whether systemd can start the agent, outside of whatever namespaces
// this process is in.
func canHandOver() bool {
	_, err := exec.LookPath("systemd-run")
	return err == nil && bootedBySystemd()
}

// bootedBySystemd is sd_booted(3).
func bootedBySystemd() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}
