package runtimes

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
	"golang.org/x/sys/unix"
)

// machine is a host with a process tree of its own: what a runtime starts in it,
// daemons, shims and containers, ends with its first process, and that with the
// test.
type machine struct {
	*sandbox.Host
	t       testing.TB
	outside *sandbox.Container
	init    *exec.Cmd
	dir     string // for configuration and sockets, the same inside and outside
	state   string // a tmpfs of the machine
	plugins string // CNI plugins: Berth's, and the reference's where Berth has none
	cgroup  string // parent of all the control groups in it
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	h, err := sandbox.New()
	must(t, err)
	t.Cleanup(h.Close)
	dir, err := os.MkdirTemp("", "berth") // short: a socket's path has 107 bytes
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &machine{Host: h, t: t, dir: dir, state: filepath.Join(dir, "state"), plugins: filepath.Join(dir, "plugins"),
		cgroup: "/" + filepath.Base(dir)}
	m.outside, err = h.Outside()
	must(t, err)
	must(t, m.linkPlugins())
	must(t, m.mounts())
	must(t, m.boot())
	t.Cleanup(m.shutdown)
	must(t, m.command("nsenter", "--net="+m.outside.Netns, serverPath(), "serve", "outside", "80").Start())
	return m
}

func (m *machine) linkPlugins() error {
	if err := os.Mkdir(m.plugins, 0o755); err != nil {
		return err
	}
	for _, folder := range []func() (string, error){sandbox.References, sandbox.Binaries, built} {
		dir, err := folder()
		if err != nil {
			return err
		}
		files, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, f := range files {
			if f.IsDir() {
				continue
			}
			link := filepath.Join(m.plugins, f.Name())
			_ = os.Remove(link) // the reference's of the same name
			if err := os.Symlink(filepath.Join(dir, f.Name()), link); err != nil {
				return err
			}
		}
	}
	return nil
}

// mounts gives the host control groups, which its new /sys hides, and a tmpfs for
// images. Its mounts are shared with the namespace of its processes, so that what a
// runtime mounts is seen by [sandbox.Host.Look].
func (m *machine) mounts() error {
	groups, err := unix.OpenTree(unix.AT_FDCWD, "/sys/fs/cgroup", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("open control groups: %w", err)
	}
	defer unix.Close(groups)
	if err := os.Mkdir(m.state, 0o755); err != nil {
		return err
	}
	return m.Do(func() error {
		if err := unix.MoveMount(groups, "", unix.AT_FDCWD, "/sys/fs/cgroup", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("mount control groups: %w", err)
		}
		// podman has locks in shared memory, and one cache that no setting moves.
		for _, dir := range []string{m.state, "/dev/shm", "/var/lib/containers"} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=1777"); err != nil {
				return fmt.Errorf("mount tmpfs on %s: %w", dir, err)
			}
		}
		return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
	})
}

const initEnv = "BERTH_TEST_INIT"

// boot starts the first process: this program, as [initMain].
func (m *machine) boot() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	m.init = exec.Command(self)
	m.init.Env = append(os.Environ(), initEnv+"=1")
	m.init.Stderr = os.Stderr
	m.init.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
	}
	if _, err := m.init.StdinPipe(); err != nil { // its end is the machine's end
		return err
	}
	out, err := m.init.StdoutPipe()
	if err != nil {
		return err
	}
	if err := m.Do(m.init.Start); err != nil {
		return err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "up\n" {
		return fmt.Errorf("first process: %q %w", line, err)
	}
	return nil
}

// initMain is the first process of a machine. It collects orphans until the test
// closes its standard input, or is gone.
func initMain() error {
	if err := unix.Mount("", "/proc", "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make /proc private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Sethostname([]byte("machine")); err != nil {
		return err
	}
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	fmt.Println("up")
	go func() {
		for range children {
			for {
				if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 || err != nil {
					break
				}
			}
		}
	}()
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// shutdown ends everything on the machine and takes its control groups away.
func (m *machine) shutdown() {
	_ = m.init.Process.Kill()
	_ = m.init.Wait()
	groups, _ := filepath.Glob("/sys/fs/cgroup/*" + m.cgroup)
	for _, root := range append(groups, "/sys/fs/cgroup"+m.cgroup) {
		var dirs []string
		_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for i := len(dirs) - 1; i >= 0; i-- {
			if err := os.Remove(dirs[i]); err != nil {
				m.t.Errorf("control group stays: %v", err)
			}
		}
	}
}

// command is a program on the machine, among its processes.
func (m *machine) command(argv ...string) *exec.Cmd {
	enter := []string{"--target=" + strconv.Itoa(m.init.Process.Pid), "--mount", "--net", "--pid", "--ipc", "--uts", "--"}
	return exec.Command("nsenter", append(enter, argv...)...)
}

// run runs a program on the machine and returns its standard output.
func (m *machine) run(argv ...string) (string, error) {
	cmd := m.command(argv...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out)), err
}

func (m *machine) mustRun(argv ...string) string {
	m.t.Helper()
	out, err := m.run(argv...)
	must(m.t, err)
	return out
}

// write makes a file in the machine's folder and returns its path.
func (m *machine) write(name, text string) string {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	must(m.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(m.t, os.WriteFile(path, []byte(text), 0o644))
	return path
}

// snapshot is what an attachment could leave on the machine. The mounts of the
// runtime's own folder are not.
func (m *machine) snapshot(t testing.TB) sandbox.Snapshot {
	t.Helper()
	s, err := m.Look("link", "address", "route", "route6", "rule", "tc", "bridge vlan", "sysctl", "nft", "iptables", "ip6tables", "state", "file", "mount")
	must(t, err)
	s["mount"] = slices.DeleteFunc(s["mount"], func(line string) bool { return strings.Contains(line, m.state) })
	return s
}

// same fails the test when the machine is not as it was.
func (m *machine) same(t testing.TB, before sandbox.Snapshot, what string) {
	t.Helper()
	if diff := before.Diff(m.snapshot(t)); diff != nil {
		t.Errorf("%s: the host is not as before:\n%s", what, strings.Join(diff, "\n"))
	}
}

// asker asks a server: from a container, from the host, from outside.
type asker func(network, address string) (string, error)

// fromHost asks from the host itself, fromOutside from the machine behind its uplink.
func (m *machine) fromHost(network, address string) (string, error) {
	return m.Output(serverPath(), "ask", network, address)
}

func (m *machine) fromOutside(network, address string) (string, error) {
	return m.outside.Output(serverPath(), "ask", network, address)
}

// listening waits until a container's server, which the container asks, is up.
func listening(from asker, port int32) (err error) {
	for range 20 {
		if _, err = from("tcp", at("127.0.0.1", int(port))); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("wait for the server: %w", err)
}

// answered fails the test unless the one asked, over TCP and over UDP, is name, and
// has seen the peer's address (empty: any).
func answered(t testing.TB, from asker, address, name, peer string) {
	t.Helper()
	for _, network := range []string{"tcp", "udp"} {
		got, err := from(network, address)
		if err != nil {
			t.Errorf("ask %s %s: %v", network, address, err)
			continue
		}
		id, saw, _ := strings.Cut(strings.TrimSpace(got), " ")
		if id != name || peer != "" && saw != peer {
			t.Errorf("%s %s was answered %q, want %s %s", network, address, got, name, peer)
		}
	}
}

// refused fails the test when somebody answers.
func refused(t testing.TB, from asker, address string) {
	t.Helper()
	for _, network := range []string{"tcp", "udp"} {
		if got, err := from(network, address); err == nil {
			t.Errorf("%s %s was answered %q", network, address, got)
		}
	}
}

func at(address string, port int) string { return net.JoinHostPort(address, fmt.Sprint(port)) }
