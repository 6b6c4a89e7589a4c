package names

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"golang.org/x/sys/unix"
)

// TestNoAgentOfADaemon: in a daemon's mount namespace, where no systemd is that could start
// it outside, no agent is started, and that is said. The container's ADD goes on.
func TestNoAgentOfADaemon(t *testing.T) {
	t.Setenv(attach.DirEnv, t.TempDir())
	dir := t.TempDir()
	path := filepath.Join(dir, "c1")
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	var said []string
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "")
		}
		if err == nil {
			err = (&Register{Bridge: "br0", Names: []string{"web"}}).Add(t.Context(), &attach.Adding{
				Attachment: &attach.Attachment{Key: attach.Key{Network: "n", Container: "c1", IfName: "eth0"}, Netns: path},
				Warned:     func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }})
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(said, "; "); !strings.Contains(got, "no agent runs, and none is started from here") || !strings.Contains(got, "takes none back") {
		t.Errorf("said %q", got)
	}
}
