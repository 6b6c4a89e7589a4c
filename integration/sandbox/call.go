package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"
)

// Call is one run of a plugin without libcni in between: its environment (SPEC
// 1.1.0, section 2, "Parameters") and what it reads on standard input.
type Call struct {
	Plugin    string // path of the binary
	Verb      string // CNI_COMMAND
	Container string
	Netns     string
	IfName    string
	Args      string // CNI_ARGS
	Path      string // CNI_PATH
	Config    string
	Env       []string // added to, and taking the place of, the above
	Wrap      []string // program and arguments in front: strace
	// KillAfter, when not 0, sends SIGKILL that long after the start.
	KillAfter time.Duration
}

// Reply is what a plugin left: both streams, and its exit code (-1: a signal).
type Reply struct {
	Stdout, Stderr string
	Exit           int
}

// Call runs a plugin on the host. The error is about starting it; a plugin that
// fails has an exit code.
func (h *Host) Call(c Call) (Reply, error) {
	argv := append(append([]string{}, c.Wrap...), c.Plugin)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(c.Config)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "CNI_COMMAND=" + c.Verb, "CNI_CONTAINERID=" + c.Container,
		"CNI_NETNS=" + c.Netns, "CNI_IFNAME=" + c.IfName, "CNI_ARGS=" + c.Args, "CNI_PATH=" + c.Path,
	}, c.Env...)
	err := h.Do(func() error {
		if err := cmd.Start(); err != nil {
			return err
		}
		if c.KillAfter != 0 {
			time.AfterFunc(c.KillAfter, func() { _ = cmd.Process.Kill() })
		}
		return cmd.Wait()
	})
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = nil
	}
	reply := Reply{Stdout: stdout.String(), Stderr: stderr.String()}
	if cmd.ProcessState != nil {
		reply.Exit = cmd.ProcessState.ExitCode()
	}
	return reply, err
}

// Failure is the CNI error of a reply that has a non-zero exit code. An error when
// standard output is not one JSON object with a code and a message.
func (r Reply) Failure() (*types.Error, error) {
	if r.Exit == 0 {
		return nil, errors.New("the plugin exited with 0")
	}
	var e types.Error
	d := json.NewDecoder(strings.NewReader(r.Stdout))
	if err := d.Decode(&e); err != nil {
		return nil, fmt.Errorf("standard output is not a CNI error: %w: %q", err, r.Stdout)
	}
	if d.More() {
		return nil, fmt.Errorf("standard output goes on after the error: %q", r.Stdout)
	}
	if e.Code == 0 || e.Msg == "" {
		return nil, fmt.Errorf("a CNI error without code or message: %q", r.Stdout)
	}
	return &e, nil
}
