package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// build builds the test binaries of packages of the root module into a folder.
func build(ctx context.Context, dir string, patterns []string, run string, limit time.Duration) ([]test, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	const format = `{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Module.Path}} {{.Dir}}{{end}}`
	out, err := output(ctx, "..", "go", append([]string{"list", "-f", format}, patterns...)...)
	if err != nil {
		return nil, err
	}
	var tests []test
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] == f[1]+"/pkg" {
			continue // pkg itself has tests of the source alone
		}
		t := test{Name: strings.TrimPrefix(f[0], f[1]+"/"), Dir: f[2], Run: run, Limit: limit}
		t.Binary = filepath.Join(dir, flat(t.Name), filepath.Base(t.Name)+".test") // as go test names it: tests look for it
		if _, err := output(ctx, "..", "go", "test", "-c", "-ldflags", "-s -w", "-o", t.Binary, f[0]); err != nil {
			return nil, err
		}
		tests = append(tests, t)
	}
	if len(tests) == 0 {
		return nil, fmt.Errorf("packages %q have no tests", patterns)
	}
	return tests, nil
}

// flat is a package's name as a file's.
func flat(name string) string { return strings.ReplaceAll(name, "/", "-") }

// output is what a program writes, without blanks around it.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stderr = dir, &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}
