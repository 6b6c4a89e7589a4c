// fresh runs commands on a new Debian: a clone of this repository, with Go, git and make,
// and nothing else that Berth needs. Each argument is a command of the shell, and has a
// root folder of its own, in memory.
//
// The Debian is the release of the machine's own sources of apt, made by debootstrap once
// and kept under the folder that BERTH_CACHE names, with the caches of Go. Without it
// that is berth-cache in TMPDIR, or in /var/tmp. The network is the machine's, as in a
// chroot.
package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// inside has the process make its root and run its argument in it.
const inside = "BERTH_FRESH_INSIDE"

func main() {
	if os.Getenv(inside) != "" {
		os.Exit(machine{base: os.Args[1], cache: os.Args[2], source: os.Args[3], dir: os.Args[4]}.run(os.Args[5]))
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fresh:", err)
		os.Exit(1)
	}
}

func run(commands []string) error {
	if os.Geteuid() != 0 {
		return errors.New("a root folder of its own needs root")
	}
	cache := filepath.Join(cmp.Or(os.Getenv("TMPDIR"), "/var/tmp"), "berth-cache")
	cache, err := filepath.Abs(cmp.Or(os.Getenv("BERTH_CACHE"), cache))
	if err != nil {
		return err
	}
	source, err := output("git", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	if changed, _ := output("git", "-C", source, "status", "--porcelain"); changed != "" {
		fmt.Println("fresh: what is not committed is not in the clone")
	}
	base, err := debian(cache)
	if err != nil {
		return fmt.Errorf("make a new Debian: %w", err)
	}
	for _, command := range commands {
		fmt.Printf("\nfresh: %s\n", command)
		start := time.Now()
		if err := child(base, cache, source, command); err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		fmt.Printf("fresh: %s: done in %.0f s\n", command, time.Since(start).Seconds())
	}
	return nil
}

// child runs a command with namespaces of its own for mounts, processes, IPC and the
// host name. All processes end with it.
func child(base, cache, source, command string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "berth-fresh")
	if err != nil {
		return err
	}
	defer os.Remove(dir) // empty: what the child mounts on it is in its namespace alone
	cmd := exec.Command(self, base, cache, source, dir, command)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(stop)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("new namespaces: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case s := <-stop:
		_ = cmd.Process.Kill() // the first process of its namespace: the others end, too
		<-done
		return errors.New(s.String())
	}
}

// output is what a program writes, without blanks around it.
func output(name string, args ...string) (string, error) {
	var stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}
