package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// kernel is one that tests are run on.
type kernel struct {
	name  string
	suite string // of Debian, whose linux-image-amd64 is it; none for uml
	parts []part
}

// kernels are Debian's, from the oldest that it has security support for to the newest.
var kernels = []kernel{
	{name: "uml", parts: withoutNFTables},
	{name: "5.10", suite: "bullseye"},
	{name: "6.1", suite: "bookworm"},
	{name: "6.12", suite: "trixie"},
	{name: "newest", suite: "trixie-backports"},
}

// choose are the kernels of these names, or all.
func choose(names []string) ([]kernel, error) {
	if len(names) == 0 {
		return kernels, nil
	}
	var chosen []kernel
	for _, name := range names {
		before := len(chosen)
		var known []string
		for _, k := range kernels {
			known = append(known, k.name)
			if k.name == name {
				chosen = append(chosen, k)
			}
		}
		if len(chosen) == before {
			return nil, fmt.Errorf("kernel %q: known are %s", name, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}

// test runs tests on the kernel. dir is the folder that it shares with the machine.
func (k kernel) test(ctx context.Context, cache, dir string, all []test, limit time.Duration) *report {
	r := &report{kernel: k.name, start: time.Now()}
	defer func() { r.took = time.Since(r.start) }()
	ctx, stop := context.WithTimeoutCause(ctx, limit, fmt.Errorf("did not end within %s", limit))
	defer stop()
	if r.err = os.MkdirAll(dir, 0o755); r.err != nil {
		return r
	}
	m, err := k.machine(ctx, cache, dir)
	if err != nil {
		r.err = err
		return r
	}
	tests := k.choice(all, r)
	if r.err = writeJob(dir, job{Modules: m.modules, Path: os.Getenv("PATH"), Tests: tests}); r.err != nil {
		return r
	}
	err = m.boot(ctx, filepath.Join(dir, "console"))
	r.read(dir, tests)
	if err != nil {
		r.err = errors.Join(err, fmt.Errorf("the end of its console:\n%s", tail(filepath.Join(dir, "console"), 30)))
	}
	return r
}

// machine makes the virtual machine.
func (k kernel) machine(ctx context.Context, cache, dir string) (*machine, error) {
	if k.suite == "" {
		return userMode(dir)
	}
	root, err := unpacked(ctx, cache, k)
	if err != nil {
		return nil, fmt.Errorf("get Debian's kernel of %s: %w", k.suite, err)
	}
	return emulated(root, dir)
}

// tail is the end of a file.
func tail(path string, lines int) string {
	data, _ := os.ReadFile(path)
	all := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
