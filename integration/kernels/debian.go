package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// unpacked is the folder of a Debian kernel, which is got when the cache has none. It has
// boot/vmlinuz-VERSION or lib/modules/VERSION/vmlinuz, and lib/modules/VERSION.
func unpacked(ctx context.Context, cache string, k kernel) (string, error) {
	dir := filepath.Join(cache, "kernels", k.suite)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	fmt.Printf("kernels: get the kernel of Debian's %s, once\n", k.suite)
	part := dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		return "", err
	}
	a := apt{dir: filepath.Join(part, "apt")}
	if err := a.update(ctx, k.suite); err != nil {
		return "", err
	}
	debs, err := a.kernel(ctx)
	if err != nil {
		return "", err
	}
	for _, deb := range debs {
		if err := unpack(ctx, deb, part); err != nil {
			return "", err
		}
	}
	if err := os.RemoveAll(a.dir); err != nil {
		return "", err
	}
	modules, err := one(filepath.Join(part, "lib/modules/*"))
	if err != nil {
		return "", err
	}
	if _, err := output(ctx, "", "depmod", "-b", part, filepath.Base(modules)); err != nil {
		return "", err
	}
	return dir, os.Rename(part, dir)
}

// apt is one with lists, a cache and a state of its own, that knows one suite.
type apt struct{ dir string }

// update makes apt's folders and gets the suite's list, from where the machine gets its
// own release.
func (a apt) update(ctx context.Context, suite string) error {
	sites, err := output(ctx, "", "apt-get", "indextargets", "--format", "$(ORIGIN) $(SUITE) $(SITE)", "Created-By: Packages")
	if err != nil {
		return err
	}
	site := ""
	for line := range strings.Lines(sites) {
		// Not debian-security, which has suites of its own.
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Debian" && !strings.Contains(f[1], "-") {
			site = f[2]
		}
	}
	if site == "" {
		return errors.New("apt has no source of Debian: is it one, and has `apt-get update` been run?")
	}
	for _, d := range []string{"lists/partial", "cache/archives/partial", "debs"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{"status": "", "sources.list": fmt.Sprintf("deb %s %s main\n", site, suite)} {
		if err := os.WriteFile(filepath.Join(a.dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	_, err = a.output(ctx, "apt-get", "update", "-q", "--error-on=any")
	return err
}

// binary are the packages that a kernel is in: one, and several since 6.19.
var binary = regexp.MustCompile(`linux-(image|base|binary|modules)-[0-9]\S*`)

// kernel downloads the packages of the suite's kernel.
func (a apt) kernel(ctx context.Context) (debs []string, err error) {
	var names []string
	for next := []string{"linux-image-amd64"}; len(next) > 0; next = next[1:] {
		out, err := a.output(ctx, "apt-cache", "depends", "--important", next[0])
		if err != nil {
			return nil, err
		}
		for _, name := range binary.FindAllString(out, -1) {
			if !slices.Contains(names, name) {
				names, next = append(names, name), append(next, name)
			}
		}
	}
	if len(names) == 0 {
		return nil, errors.New("linux-image-amd64 depends on no kernel")
	}
	if _, err := a.output(ctx, "apt-get", append([]string{"download", "-q"}, names...)...); err != nil {
		return nil, err
	}
	return filepath.Glob(filepath.Join(a.dir, "debs", "*.deb"))
}

func (a apt) output(ctx context.Context, name string, args ...string) (string, error) {
	all := append([]string{"-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=30",
		"-o", "Dir::Etc::sourceparts=/dev/null", "-o", "Dir::Etc::sourcelist=" + a.dir + "/sources.list",
		"-o", "Dir::State::status=" + a.dir + "/status", "-o", "Dir::State::lists=" + a.dir + "/lists",
		"-o", "Dir::Cache=" + a.dir + "/cache"}, args...)
	return output(ctx, filepath.Join(a.dir, "debs"), name, all...)
}

// unpack unpacks what the machine needs of a kernel's package. In packages of Debian 13
// and later /lib is /usr/lib.
func unpack(ctx context.Context, deb, dir string) error {
	const script = `dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" --transform 's,^\./usr/lib/,./lib/,' \
		--exclude '*/drivers/*/ethernet' --exclude '*/wireless' --exclude '*/drivers/[a-mo-uw-z]*' --exclude '*/sound' \
		--exclude '*/usr/share' --exclude '*/System.map*'`
	cmd := exec.CommandContext(ctx, "bash", "-c", "set -o pipefail; "+script, "-", deb, dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("unpack %s: %w\n%s", filepath.Base(deb), err, out)
	}
	return nil
}
