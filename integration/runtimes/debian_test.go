package runtimes

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// debian has the files of Debian packages that a machine of the tests is to have and the
// real one is not: installing them would start services, and change its firewall. They
// are downloaded, with what they depend on and the real machine lacks, and unpacked under
// the folder that BERTH_CACHE names, or berth-cache in TMPDIR or /var/tmp. No script of
// theirs is run. A test is skipped where there is no network to get them by.
func debian(t testing.TB, names ...string) string {
	t.Helper()
	there, err := exec.Command("dpkg-query", "-W").Output()
	if err != nil {
		t.Skipf("not a Debian: %v", err)
	}
	cache := cmp.Or(os.Getenv("BERTH_CACHE"), filepath.Join(cmp.Or(os.Getenv("TMPDIR"), "/var/tmp"), "berth-cache"))
	must(t, os.MkdirAll(cache, 0o755))
	kind := filepath.Join(cache, strings.Join(names, "-"))
	dir := fmt.Sprintf("%s-%.6x", kind, sha256.Sum256(there))
	lock, err := os.OpenFile(kind+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	must(t, err)
	defer lock.Close()
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	must(t, err)
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	old, err := filepath.Glob(kind + "-*") // of the machine before it was upgraded
	must(t, err)
	for _, o := range old {
		must(t, os.RemoveAll(o))
	}
	part := dir + ".part"
	if err := download(filepath.Join(part, "debs"), names); err != nil {
		t.Skipf("download %s: %v", strings.Join(names, ", "), err)
	}
	must(t, unpack(part))
	must(t, os.RemoveAll(filepath.Join(part, "debs")))
	must(t, os.Rename(part, dir))
	return dir
}

// download gets the packages, and those that they depend on and the machine has not.
func download(to string, names []string) error {
	if err := os.MkdirAll(filepath.Join(to, "partial"), 0o755); err != nil {
		return err
	}
	args := append([]string{"install", "-y", "-qq", "--no-install-recommends", "--download-only", "-o", "Dir::Cache::archives=" + to}, names...)
	out, err := exec.Command("apt-get", args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return err
}

// unpack unpacks all packages into one folder, where /bin, /sbin and /lib are in /usr.
func unpack(dir string) error {
	for _, name := range []string{"bin", "sbin", "lib"} {
		if err := os.MkdirAll(filepath.Join(dir, "usr", name), 0o755); err != nil {
			return err
		}
		if err := os.Symlink("usr/"+name, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "etc"), 0o755); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(dir, "debs", "*.deb"))
	for _, deb := range debs {
		script := `dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"`
		if out, err := exec.Command("bash", "-c", "set -o pipefail; "+script, "-", deb, dir).CombinedOutput(); err != nil {
			return fmt.Errorf("unpack %s: %w\n%s", filepath.Base(deb), err, out)
		}
	}
	return err
}

// install gives the machine, and nobody else, the files of packages. What it changes in
// /etc and /var/log is in memory. A test is skipped where the kernel does not let one.
func (m *machine) install(t testing.TB, packages string) {
	t.Helper()
	upper, work := filepath.Join(m.state, "etc"), filepath.Join(m.state, "etc.work")
	err := m.Do(func() error { return mount("overlay", "/usr", "lowerdir="+packages+"/usr:/usr") })
	if err != nil {
		t.Skipf("add to the machine's programs: %v", err)
	}
	must(t, m.Do(func() error {
		for _, dir := range []string{upper, work} {
			if err := os.Mkdir(dir, 0o755); err != nil {
				return err
			}
		}
		if err := mount("overlay", "/etc", fmt.Sprintf("lowerdir=%s/etc:/etc,upperdir=%s,workdir=%s", packages, upper, work)); err != nil {
			return err
		}
		if err := os.MkdirAll("/etc/cni", 0o755); err != nil {
			return err
		}
		if err := mount("tmpfs", "/etc/cni", "mode=755"); err != nil {
			return err
		}
		return mount("tmpfs", "/var/log", "mode=755")
	}))
}

func mount(kind, at, options string) error {
	if err := unix.Mount(kind, at, kind, 0, options); err != nil {
		return fmt.Errorf("mount %s on %s: %w", kind, at, err)
	}
	return nil
}
