package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/berth-cni/berth/integration/sandbox"
)

// startUp takes the time of the VERSION verb, summed over the plugins of one ADD.
func startUp(contestants []*contestant, p plan) error {
	progress("start-up")
	all := map[string]*times{}
	for range p.Starts {
		for _, c := range contestants {
			for _, plugin := range c.plugins {
				if all[plugin] == nil {
					all[plugin] = &times{}
				}
				cmd := exec.Command(plugin)
				cmd.Env = []string{"CNI_COMMAND=VERSION", "CNI_CONTAINERID=c0", "PATH=" + os.Getenv("PATH")}
				cmd.Stdin = bytes.NewReader([]byte(`{"cniVersion": "1.0.0"}`))
				start := time.Now()
				if out, err := cmd.Output(); err != nil {
					return fmt.Errorf("VERSION of %s: %w: %s", plugin, err, out)
				}
				all[plugin].took(time.Since(start))
			}
		}
	}
	for _, c := range contestants {
		for _, plugin := range c.plugins {
			c.Start += all[plugin].median()
		}
	}
	return nil
}

// memory takes the peak of resident memory of the largest process of one ADD, the
// second of its host.
func memory(contestants []*contestant, p plan) error {
	progress("memory")
	for _, c := range contestants {
		if c.conflist == "" {
			continue
		}
		a, err := c.arena()
		if err != nil {
			return err
		}
		if _, err := a.burst(0, 1, 1); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		meter := &rssExec{RawExec: &invoke.RawExec{Stderr: io.Discard}, helper: c.maxrss}
		net, err := a.host.NetworkExec(meter, c.conflist, c.dirs...)
		if err != nil {
			return err
		}
		subject, err := a.container(sampleNumber)
		if err != nil {
			return err
		}
		if _, err := net.Add(subject, sandbox.Cap("portMappings", []map[string]any{
			{"hostPort": 9999, "containerPort": 80, "protocol": "tcp"}})); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		a.host.Close()
		c.MaxRSS = meter.peak
	}
	return nil
}

// rssExec starts plugins through maxrss, and keeps the largest number.
type rssExec struct {
	*invoke.RawExec
	version.PluginDecoder
	helper string // path of maxrss
	peak   int    // KiB
}

func (e *rssExec) ExecPlugin(ctx context.Context, plugin string, stdin []byte, env []string) ([]byte, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.CommandContext(ctx, e.helper, plugin)
	cmd.Env, cmd.Stdin, cmd.ExtraFiles = env, bytes.NewReader(stdin), []*os.File{w}
	out, err := cmd.Output()
	w.Close()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", filepath.Base(plugin), err, out)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	kib, err := strconv.Atoi(string(text))
	e.peak = max(e.peak, kib)
	return out, err
}
