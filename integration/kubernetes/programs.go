package kubernetes

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
)

// source is where a program comes from: a nested module, which the Go module proxy has all
// of, and a package of it or of what it requires.
type source struct {
	module  string // folder, beside this file
	of      string // module whose version the program says
	pkg     string
	test    bool   // the package's test binary
	version string // variables of the linker, with %s for "1.36.3"; the second one is the minor version
}

const kubernetes = "k8s.io/kubernetes"

// link says to Kubernetes' programs which version they are: they ask each other for it.
const link = "-X k8s.io/component-base/version.gitVersion=v%[1]s -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=%[2]s"

// sources has all programs. CPU seconds to build one with nothing cached, one after the
// other: kube-apiserver 900, kubelet 290, kube-controller-manager 160, e2e.test 190,
// coredns 330, the others under 50.
func sources() map[string]source {
	all := map[string]source{
		"agnhost": {"programs", kubernetes, kubernetes + "/test/images/agnhost", false, link},
		// Sends packets that connection tracking does not take for valid.
		"regression-issue-74839": {"programs", kubernetes, kubernetes + "/test/images/regression-issue-74839", false, link},
		"e2e.test":               {"programs", kubernetes, ".", true, link},
		// Runs several of e2e.test side by side.
		"ginkgo":  {"programs", kubernetes, "github.com/onsi/ginkgo/v2/ginkgo", false, ""},
		"helm":    {"../manifest", "helm.sh/helm/v4", "helm.sh/helm/v4/cmd/helm", false, ""},
		"coredns": {"coredns", "github.com/coredns/coredns", ".", false, ""},
	}
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"} {
		all[name] = source{"programs", kubernetes, kubernetes + "/cmd/" + name, false, link}
	}
	return all
}

// Program is the path of a program that [Build] has built.
func Program(name string) (string, error) {
	path, _, err := place(name)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: `cd integration && go run ./kubernetes/build %s` builds it", err, name)
	}
	return path, nil
}

// Build builds programs that are not there yet, one after the other, and says what it
// does. It needs the Go module proxy, or a module cache that has everything.
func Build(out io.Writer, names ...string) error {
	for _, name := range names {
		path, version, err := place(name)
		if err != nil {
			return err
		}
		if _, err := os.Stat(path); err == nil {
			continue
		}
		fmt.Fprintf(out, "building %s %s\n", name, version)
		start := time.Now()
		if err := build(path, version, sources()[name]); err != nil {
			return fmt.Errorf("build %s: %w", name, err)
		}
		fmt.Fprintf(out, "built %s after %v\n", name, time.Since(start).Round(time.Second))
	}
	return nil
}

// Source is the folder of Kubernetes' source, which the programs' images take files of.
func Source() (string, error) {
	dir, err := here()
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", kubernetes)
	cmd.Dir = filepath.Join(dir, "programs")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("find the source of %s: %w", kubernetes, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// build makes the program under another name first: what has its name is whole.
func build(path, version string, s source) error {
	dir, err := here()
	if err != nil {
		return err
	}
	minor, _, _ := strings.Cut(strings.TrimPrefix(version, "v1."), ".")
	flags := "-s -w"
	if s.version != "" {
		flags += " " + fmt.Sprintf(s.version, strings.TrimPrefix(version, "v"), minor)
	}
	part := path + ".part"
	args := []string{"build"}
	if s.test {
		args = []string{"test", "-c", "-vet=off"}
	}
	cmd := exec.Command("go", append(args, "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", part, s.pkg)...)
	cmd.Dir = filepath.Join(dir, s.module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, text)
	}
	return os.Rename(part, path)
}

// place is where a program belongs, and its version: .bin/kubernetes/VERSION/NAME in the
// module's folder.
func place(name string) (path, version string, err error) {
	s, ok := sources()[name]
	if !ok {
		return "", "", fmt.Errorf("program %q: not one of Kubernetes' that the tests use", name)
	}
	dir, err := here()
	if err != nil {
		return "", "", err
	}
	data, err := os.ReadFile(filepath.Join(dir, s.module, "go.mod"))
	if err != nil {
		return "", "", err
	}
	m, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		return "", "", err
	}
	for _, r := range m.Require {
		if r.Mod.Path == s.of {
			return filepath.Join(dir, "..", ".bin", "kubernetes", r.Mod.Version, name), r.Mod.Version, nil
		}
	}
	return "", "", fmt.Errorf("%s/go.mod requires no %s", s.module, s.of)
}

// here is this package's folder, from any working directory of the module.
func here() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "kubernetes", "programs", "go.mod")); err == nil {
			return filepath.Join(dir, "kubernetes"), nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("not in the module of the integration tests")
		}
	}
}
