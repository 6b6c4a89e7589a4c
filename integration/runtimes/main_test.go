// Package runtimes drives the built plugins through container runtimes:
// containerd's CRI service, as Kubernetes does, and podman; and beside Docker and
// firewalld, which have rules of their own. Each test has a machine of its own, on which
// the runtime runs with its own folders and an image that is made on the spot.
//
// A runtime that is not installed fails its tests. Where it cannot be installed,
// BERTH_WITHOUT names it ("podman containerd2"), and its tests are skipped.
package runtimes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// builtDir has what TestMain built: what goes into the containers and the chains.
var builtDir string

func TestMain(m *testing.M) {
	if os.Getenv(initEnv) != "" {
		exit(initMain())
	}
	for _, there := range []func() (string, error){sandbox.Binaries, sandbox.References} {
		if _, err := there(); err != nil {
			exit(err)
		}
	}
	var err error
	if builtDir, err = os.MkdirTemp("", "berth-built"); err != nil {
		exit(err)
	}
	code := 1
	if err = build(builtDir); err == nil {
		code = m.Run()
	}
	os.RemoveAll(builtDir)
	if err != nil {
		exit(err)
	}
	os.Exit(code)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "runtimes:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// build makes the test server, the failing plugin and the image.
func build(dir string) error {
	for _, name := range []string{"server", "failing"} {
		cmd := exec.Command("go", "build", "-o", dir, "./"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	return writeImage(imagePath(), serverPath())
}

func built() (string, error) { return builtDir, nil }
func serverPath() string     { return filepath.Join(builtDir, "server") }
func imagePath() string      { return filepath.Join(builtDir, "image.tar") }

// need finds a runtime's program in the folders, or fails the test.
func need(t testing.TB, runtime, program, hint string) string {
	t.Helper()
	if slices.Contains(strings.Fields(os.Getenv("BERTH_WITHOUT")), runtime) {
		t.Skipf("BERTH_WITHOUT says that %s cannot be installed here", runtime)
	}
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%v: %s", err, hint)
	}
	return path
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
