package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/spf13/cobra"
)

// TestHelpRepair are the manuals of the commands that look after a host.
func TestHelpRepair(t *testing.T) {
	t.Setenv(attach.DirEnv, "")
	for _, c := range []string{"reload", "gc", "completion", "doc man"} {
		var out bytes.Buffer
		if code := run(t.Context(), &program{out: &out, err: io.Discard}, append(strings.Fields(c), "--help")...); code != exitDone {
			t.Errorf("%s: exit code %d", c, code)
		}
		golden(t, "help/"+strings.ReplaceAll("berth "+c, " ", "-")+".txt", out.String())
	}
}

func TestCompletion(t *testing.T) {
	w := newHost(t)
	conflist := filepath.Join(os.Getenv("NETCONFPATH"), "blue.conflist")
	if err := os.WriteFile(conflist, []byte(`{"cniVersion": "1.0.0", "name": "blue", "plugins": [{"type": "macvlan", "master": "wire"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	p := &program{}
	for _, c := range []struct {
		what       string
		complete   cobra.CompletionFunc
		args       []string
		word, want string
	}{
		{"networks", p.completeNetworks, nil, "", "blue\tmacvlan, web\tbridge"},
		{"the others", p.completeNetworks, []string{"blue"}, "", "web\tbridge"},
		{"containers", p.completeContainers, nil, "", "c1\ton web, c2\ton web"},
		{"containers by ID", p.completeContainers, []string{"c2"}, "c", "c1\ton web"},
		{"first a network", p.completeNetworkThenContainer, nil, "", "blue\tmacvlan, web\tbridge"},
		{"then a container", p.completeNetworkThenContainer, []string{"web"}, "", "c1\ton web, c2\ton web"},
	} {
		got, _ := c.complete(&cobra.Command{}, c.args, c.word)
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
	for command, want := range map[string]string{
		"reload": "blue, web", "gc blue": "web", "inspect": "c1, c2, blue, web", "network rm": "blue, web", "network inspect": "blue, web",
		"network connect": "blue, web", "network connect web": "c1, c2", "network disconnect web c1": "c2", "network conflist": "blue, web",
	} {
		var got []string
		for line := range strings.Lines(w.offered(append(strings.Fields(command), "")...)) {
			word, _, _ := strings.Cut(line, "\t")
			got = append(got, word)
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
}

// offered runs the program as a shell's script does; what it takes for words of the
// command line is behind it.
func (w *testHost) offered(args ...string) string {
	w.Helper()
	var b bytes.Buffer
	p := &program{out: &b, err: io.Discard}
	if code := run(w.Context(), p, append([]string{cobra.ShellCompRequestCmd}, args...)...); code != exitDone {
		w.Errorf("%v: exit code %d", args, code)
	}
	offered, _, _ := strings.Cut(b.String(), ":4\n") // ShellCompDirectiveNoFileComp
	return offered
}

func TestCompletionScripts(t *testing.T) {
	for shell, check := range map[string][]string{"bash": {"bash", "-n"}, "zsh": nil, "fish": nil} {
		var b bytes.Buffer
		if code := run(t.Context(), &program{out: &b, err: io.Discard}, "completion", shell); code != exitDone || !strings.Contains(b.String(), "berth") {
			t.Errorf("%s: %d, %d bytes", shell, code, b.Len())
		}
		if check != nil {
			cmd := exec.Command(check[0], check[1:]...)
			cmd.Stdin = &b
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", shell, err, out)
			}
		}
	}
	if code := run(t.Context(), &program{out: io.Discard, err: io.Discard}, "completion", "tcsh"); code != exitUsage {
		t.Errorf("tcsh: %d", code)
	}
}

func TestManuals(t *testing.T) {
	t.Setenv(attach.DirEnv, "")
	dir := filepath.Join(t.TempDir(), "man8")
	if code := run(t.Context(), &program{out: io.Discard, err: io.Discard}, "doc", "man", dir); code != exitDone {
		t.Fatalf("exit code %d", code)
	}
	for _, name := range []string{"berth.8", "berth-doctor.8", "berth-network-create.8", "berth-gc.8"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	page, err := os.ReadFile(filepath.Join(dir, "berth-gc.8"))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "berth-gc.8", string(page))
	if _, err := os.Stat(filepath.Join(dir, "berth-doc.8")); err == nil {
		t.Error("a hidden command has a page")
	}
	// A line that begins with a dot or an apostrophe is a request: of these only.
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, ".") && !strings.Contains(".TH .SH .PP .TP .B .nf .fi", strings.Fields(line)[0]) || strings.HasPrefix(line, "'") {
			t.Errorf("%q", line)
		}
	}
}

func TestRoff(t *testing.T) {
	for text, want := range map[string]string{"a-b": `a\-b`, `a\b`: `a\eb`, ".x\n'y": "\\&.x\n\\&'y"} {
		if got := roff(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
