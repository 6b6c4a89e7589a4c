package proc

import (
	"errors"
	"os"
	"testing"

	"github.com/berth-cni/berth/pkg/nstest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func TestSet(t *testing.T) {
	nstest.Host(t)
	path := Net("ipv4", "conf", "lo", "rp_filter")
	for _, step := range []struct {
		value   string
		changed bool
	}{{"2", true}, {"2", false}, {"0", true}} {
		if changed, err := Set(path, step.value); err != nil || changed != step.changed {
			t.Errorf("set to %s: %v, %v", step.value, changed, err)
		}
		if got, err := Read(path); err != nil || got != step.value {
			t.Errorf("%s is %q, %v; want %s", path, got, err, step.value)
		}
	}
	if _, err := Set(path, "many"); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a bad value: %v", err)
	}
	for _, missing := range []string{Net("ipv4", "conf", "nobody", "rp_filter"), "/proc/nothing"} {
		if got, err := Read(missing); got != "" || err != nil {
			t.Errorf("read %s: %q, %v", missing, got, err)
		}
		if changed, err := Set(missing, "1"); changed || err != nil {
			t.Errorf("set %s: %v, %v", missing, changed, err)
		}
	}
	if _, err := Read("/proc/self"); !errors.Is(err, unix.EISDIR) {
		t.Errorf("read a folder: %v", err)
	}
}

// TestReadOnly: what cannot be written and has its value already is no error, nor what
// only protects.
func TestReadOnly(t *testing.T) {
	nstest.Host(t)
	path := Net("ipv4", "conf", "lo", "rp_filter")
	if _, err := Set(path, "2"); err != nil {
		t.Fatal(err)
	}
	if !Writable(path) {
		t.Errorf("%s is said to be read-only", path)
	}
	nstest.ReadOnlySettings(t)
	if changed, err := Set(path, "2"); changed || err != nil {
		t.Errorf("set to what it is: %v, %v", changed, err)
	}
	if _, err := Set(path, "1"); !IsReadOnly(err) {
		t.Errorf("set to another value: %v", err)
	}
	if left, err := Protect(path, "1"); !left || err != nil {
		t.Errorf("protect: left %v, %v", left, err)
	}
	if left, err := Protect(path, "2"); left || err != nil {
		t.Errorf("protect what is so: left %v, %v", left, err)
	}
	if Writable(path) {
		t.Errorf("%s is said to be writable", path)
	}
	if missing := Net("ipv4", "conf", "nobody", "rp_filter"); IsReadOnly(unix.ENOENT) || !Writable(missing) {
		t.Errorf("%s is said to be read-only", missing)
	}
}

// TestHostSettings: in a container that has the host's settings as a volume they can be
// written, and are those of its network namespace.
func TestHostSettings(t *testing.T) {
	nstest.Host(t)
	path := Net("ipv4", "conf", "lo", "rp_filter")
	const volume = "/run/host/proc/sys/net"
	nstest.ReadOnlySettings(t)
	if err := errors.Join(unix.Mount("tmpfs", "/run", "tmpfs", 0, ""), os.MkdirAll(volume, 0o755), unix.Mount("/proc/sys/net", volume, "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount("/run", unix.MNT_DETACH) })
	if err := unix.Mount("", volume, "", unix.MS_REMOUNT|unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if !Writable(path) {
		t.Errorf("%s is said to be read-only", path)
	}
	if left, err := Protect(path, "2"); left || err != nil {
		t.Errorf("left %v, %v", left, err)
	}
	if got, err := Read(path); got != "2" || err != nil {
		t.Errorf("it is %q, %v", got, err)
	}
}

// TestOwn: a setting of the thread's namespace through an instance of proc that nobody sees.
func TestOwn(t *testing.T) {
	nstest.Host(t)
	path := Net("ipv4", "ip_forward")
	fs := Own()
	if fs.root == 0 {
		t.Fatal("no instance of proc")
	}
	defer fs.Close()
	nstest.In(t, nstest.Namespace(t), func() {
		if changed, err := fs.Set(path, "1"); !changed || err != nil {
			t.Errorf("changed %v, %v", changed, err)
		}
		if got, err := Read(path); got != "1" || err != nil {
			t.Errorf("in the namespace it is %q, %v", got, err)
		}
	})
	if got, err := Read(path); got != "0" || err != nil {
		t.Errorf("in the host it is %q, %v", got, err)
	}
	if err := errors.Join(fs.Change(path, "0"), fs.Change(Net("ipv4", "nothing"), "0")); err != nil {
		t.Error(err)
	}
	if err := fs.Change(path, "no number"); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a value that the kernel refuses: %v", err)
	}
	if got, err := fs.Read(Net("ipv4", "nothing")); got != "" || err != nil {
		t.Errorf("a setting that is not there: %q, %v", got, err)
	}
}
