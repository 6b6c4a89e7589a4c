package connect

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"golang.org/x/sys/unix"
)

// plugins runs plugins for libcni. Unlike libcni's own, which kills them, it tells them
// to end when the context does: then they take back what they have made.
type plugins struct {
	version.PluginDecoder
	stateDir string
	stderr   io.Writer
}

var _ invoke.Exec = (*plugins)(nil)

// pluginError names a plugin that could not be run.
type pluginError struct{ error }

func (e *pluginError) Unwrap() error { return e.error }

// patience is how long a plugin that was told to end may take.
const patience = 10 * time.Second

// ExecPlugin implements [invoke.Exec].
func (p *plugins) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = patience
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, p.stderr
	cmd.Env = append(environ, attach.DirEnv+"="+p.stateDir)
	if err := cmd.Run(); err != nil {
		var said types.Error
		if json.Unmarshal(out.Bytes(), &said) == nil && said.Msg != "" {
			return nil, &said
		}
		return nil, &pluginError{fmt.Errorf("run %s: %w", path, err)}
	}
	return out.Bytes(), nil
}

// FindInPath implements [invoke.Exec].
func (p *plugins) FindInPath(plugin string, dirs []string) (string, error) {
	path, err := invoke.FindInPath(plugin, dirs)
	if err != nil {
		return "", &pluginError{fmt.Errorf("the plugin %s is not in %s: --bin-dir says where it is", plugin, strings.Join(dirs, string(filepath.ListSeparator)))}
	}
	return path, nil
}
