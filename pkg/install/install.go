// Package install keeps Berth's plugins in the folder where a host's runtimes look for
// plugins, for an agent that comes as an image: each by its second name, berth-bridge of
// bridge, so that those of other suites stay what they are. Where no suite has a loopback,
// ours is there by that name, too: runtimes call it for every pod, whatever its network.
package install

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/berth-cni/berth/pkg/internal/filewatch"
	"github.com/berth-cni/berth/pkg/internal/schema"
	"github.com/berth-cni/berth/pkg/ipam"
)

// Plugins are those of one version, and the folder that they are installed into.
type Plugins struct {
	From string // the folder of this version's
	To   string // the runtimes'
	Log  *slog.Logger

	sources []plugin
	seen    map[string]stamp // installed files, as they were when they were found right
	refused string           // the last error, to log it once
	ready   atomic.Bool
}

// plugin is one to install.
type plugin struct {
	source string // path
	name   string // of the installed file
	digest [sha256.Size]byte
	spare  bool // only where there is none of the name, or an earlier one of ours
}

// loopback is called by runtimes by this name.
const loopback = "loopback"

const (
	// settle is how long a package manager is left to its work before it is looked at.
	settle = 100 * time.Millisecond
	// tick is how often the files are compared, whatever was told.
	tick = 30 * time.Second
)

// Open reads the plugins of this version.
func Open(from, to string, log *slog.Logger) (*Plugins, error) {
	p := &Plugins{From: from, To: to, Log: log, seen: map[string]stamp{}}
	entries, err := os.ReadDir(from)
	if err != nil {
		return nil, fmt.Errorf("list plugins to install: %w", err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			continue
		}
		source := filepath.Join(from, e.Name())
		digest, err := digestOf(source)
		if err != nil {
			return nil, fmt.Errorf("read plugin to install: %w", err)
		}
		p.sources = append(p.sources, plugin{source: source, name: Name(e.Name()), digest: digest})
		if e.Name() == loopback {
			p.sources = append(p.sources, plugin{source: source, name: loopback, digest: digest, spare: true})
		}
	}
	if len(p.sources) == 0 {
		return nil, fmt.Errorf("plugins to install: %s has none", from)
	}
	return p, nil
}

// Name is the name of the file that a plugin is installed as.
func Name(plugin string) string {
	if strings.HasPrefix(plugin, schema.OwnPrefix) {
		return plugin
	}
	return schema.OwnPrefix + plugin
}

// Ready tells whether all plugins were there when they were last compared. It is safe for
// concurrent use.
func (p *Plugins) Ready() bool { return p.ready.Load() }

// Run installs the plugins, and puts back what somebody takes or changes, until the
// context ends. [Plugins.Install] has been called before.
func (p *Plugins) Run(ctx context.Context) {
	changed := make(chan struct{}, 1)
	var files []string
	for _, s := range p.sources {
		files = append(files, filepath.Join(p.To, s.name))
	}
	go func() {
		for ctx.Err() == nil {
			err := filewatch.Watch(ctx, settle, func() {
				select {
				case changed <- struct{}{}:
				default:
				}
			}, files...)
			if err != nil && ctx.Err() == nil {
				p.Log.Warn("watch the plugins; they are compared now and then", "error", err)
				return
			}
		}
	}()
	next := time.NewTimer(settle) // for what happened before the watch had begun
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-next.C:
			next.Reset(tick)
		}
		p.Install()
	}
}

// Install is Sync, with what it did in the log.
func (p *Plugins) Install() {
	done, err := p.Sync()
	if len(done) > 0 {
		p.Log.Info("plugins installed", "folder", p.To, "plugins", strings.Join(done, " "))
	}
	why := ""
	if err != nil {
		why = err.Error()
	}
	if why != p.refused && err != nil {
		p.Log.Error("install plugins", "error", err)
	}
	p.refused = why
}

// Sync compares the folder with the plugins, and installs those that are not there or are
// others. It returns their names. A file of another suite is left as it is: the error names
// it.
func (p *Plugins) Sync() (done []string, err error) {
	if err := os.MkdirAll(p.To, 0o755); err != nil {
		return nil, fmt.Errorf("make folder of plugins: %w", err)
	}
	var errs []error
	for _, s := range p.sources {
		installed, err := p.sync(s)
		if installed {
			done = append(done, s.name)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("install plugin %s: %w", s.name, err))
		}
	}
	p.ready.Store(len(errs) == 0)
	return done, errors.Join(errs...)
}

func (p *Plugins) sync(s plugin) (installed bool, err error) {
	path := filepath.Join(p.To, s.name)
	now, err := stampOf(path)
	if err == nil && now == p.seen[s.name] {
		return false, nil
	}
	if err == nil {
		if digest, err := digestOf(path); err == nil && digest == s.digest && now.mode.Perm() == perm {
			p.seen[s.name] = now
			return false, nil
		}
		if s.spare && !builtOfUs(path) {
			p.seen[s.name] = now
			return false, nil
		}
		if err := Ours(path); err != nil {
			return false, err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	// What is there since is looked at the next time: somebody may have changed it already.
	err = replace(s, path)
	return err == nil, err
}

// Installed are the names in a folder of files that are Berth's by their second name, and
// loopback where it is Berth's.
func Installed(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []string
	for _, e := range entries {
		name := strings.TrimSuffix(strings.TrimPrefix(e.Name(), "."), unfinished) // what a crash left
		path := filepath.Join(dir, e.Name())
		if own(name) && Ours(path) == nil || name == loopback && builtOfUs(path) {
			all = append(all, e.Name())
		}
	}
	return all, err
}

// own tells whether a name is one that a plugin of ours is installed by.
func own(name string) bool { return schema.Canonical(name) != name || name == ipam.BuiltInType }
