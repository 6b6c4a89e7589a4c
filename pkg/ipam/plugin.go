package ipam

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"
)

const (
	// lingerTime is how long the output of a plugin that has ended is waited for,
	// when a daemon that it started keeps its stdout open.
	lingerTime = time.Second

	busyTries = 6                     // of a binary that is being replaced
	busyWait  = 10 * time.Millisecond // doubled with each try: 310 ms in all
)

// plugin is the path of another CNI plugin's binary. It is run here rather than
// by cni's pkg/invoke, which links net/http and OpenTelemetry.
type plugin string

// checkName refuses what is not a plain file name: a type with a slash would run
// a program outside of CNI_PATH (CVE-2021-20206).
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("ipam.type: %q: want the name of a plugin on CNI_PATH, without a slash", name)
	}
	return nil
}

// findPlugin returns the first file of that name in the folders of a CNI_PATH.
func findPlugin(name, path string) (plugin, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			continue
		}
		// Not filepath.Join: "./x" without its dot is looked up on PATH.
		file := dir + string(filepath.Separator) + name
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			return plugin(file), nil
		}
	}
	return "", fmt.Errorf("ipam plugin %q is not on CNI_PATH %q: %w", name, path, os.ErrNotExist)
}

// run executes one command with the configuration on stdin, and returns stdout.
// env comes on top of our own environment; stderr is ours. When the context ends
// the plugin is killed.
func (p plugin) run(ctx context.Context, command string, conf json.RawMessage, env []string) ([]byte, error) {
	var stdout bytes.Buffer
	err := p.start(ctx, func(cmd *exec.Cmd) {
		cmd.Stdin = bytes.NewReader(conf)
		cmd.Stdout = &stdout
		cmd.Stderr = os.Stderr
		cmd.Env = append(append(os.Environ(), env...), "CNI_COMMAND="+command)
		cmd.WaitDelay = lingerTime
	})
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return stdout.Bytes(), nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	} else {
		err = explain(err, stdout.Bytes())
	}
	return nil, fmt.Errorf("%s by ipam plugin %s: %w", command, filepath.Base(string(p)), err)
}

// start runs the binary to its end, and again while it is open for writing.
func (p plugin) start(ctx context.Context, set func(*exec.Cmd)) error {
	wait := busyWait
	for try := 1; ; try++ {
		cmd := exec.CommandContext(ctx, string(p))
		set(cmd)
		err := cmd.Run()
		if !errors.Is(err, unix.ETXTBSY) || try == busyTries {
			return err
		}
		select {
		case <-time.After(wait):
			wait *= 2
		case <-ctx.Done():
			return err
		}
	}
}

// explain turns what a failed plugin printed into its error (CNI SPEC, section 5);
// without one, the exit status has to do, beside what it wrote to stderr.
func explain(err error, stdout []byte) error {
	var said types.Error
	if json.Unmarshal(stdout, &said) == nil && said.Msg != "" {
		return &said
	}
	if out := bytes.TrimSpace(stdout); len(out) > 0 {
		return fmt.Errorf("%w, with %.200q in place of an error", err, out)
	}
	return err
}
