package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// TestOneProcess watches ADD and DEL with strace: no other program, no other process.
func TestOneProcess(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.used(bridge)
	c := b.container("c1")
	call := sandbox.Call{Container: c.ID, Netns: c.Netns, Config: config(version, bridge, twoPorts)}
	for _, verb := range []string{"ADD", "CHECK", "DEL"} {
		log := filepath.Join(t.TempDir(), "strace")
		call.Verb, call.Wrap = verb, []string{"strace", "-f", "-qq", "-e", "trace=execve,execveat,fork,vfork,clone,clone3", "-o", log}
		r := b.good(b.call(call))
		if r.Stderr != "" {
			t.Errorf("%s wrote on standard error: %s", verb, r.Stderr)
		}
		if verb == "ADD" {
			call.Config = config(version, bridge, twoPorts, `"prevResult": `+r.Stdout)
		} else if r.Stdout != "" {
			t.Errorf("%s wrote on standard output: %s", verb, r.Stdout)
		}
		data, err := os.ReadFile(log)
		must(t, err)
		programs := 0
		for line := range strings.Lines(string(data)) {
			switch {
			case strings.Contains(line, "execve"):
				programs++
			case created.MatchString(line) && !strings.Contains(line, "CLONE_THREAD"):
				t.Errorf("%s started a process: %s", verb, line)
			}
		}
		if programs != 1 {
			t.Errorf("%s ran %d programs, want 1:\n%s", verb, programs, data)
		}
	}
}

var created = regexp.MustCompile(`\b(fork|vfork|clone|clone3)\(`)

// TestBinaries looks at the files themselves: static, and at most 5,500 KiB.
func TestBinaries(t *testing.T) {
	t.Parallel()
	bin, err := sandbox.Binaries()
	must(t, err)
	for _, name := range []string{"bridge", "berth-ipam"} {
		path := filepath.Join(bin, name)
		st, err := os.Stat(path)
		if err != nil {
			t.Error(err)
			continue
		}
		const most = 5_500 << 10
		if st.Size() > most {
			t.Errorf("%s has %d bytes, want at most %d", name, st.Size(), most)
		}
		data, err := os.ReadFile(path)
		must(t, err)
		if strings.Contains(string(data), "/lib64/ld-linux") {
			t.Errorf("%s is not static", name)
		}
	}
}
