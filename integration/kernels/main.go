// kernels runs the tests of packages on other kernels than the machine's, each in a
// virtual machine that has the machine's root file system, read-only, and keeps what it
// writes in memory. Its arguments are names of kernels; without any it runs all.
//
//	go run ./kernels -run TestVLAN uml 6.12
//
// uml is Debian's user-mode Linux, a process. The others are Debian's kernels in QEMU,
// by KVM where the machine has it. Their packages are unpacked, once, under the folder
// that BERTH_CACHE names, or berth-cache in TMPDIR, or in /var/tmp. Nothing is installed.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if dir := os.Getenv(jobEnv); dir != "" {
		inside(dir)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "kernels:", err)
		os.Exit(1)
	}
}

// inside is what this program does in a machine.
func inside(dir string) {
	if os.Getpid() == 1 {
		guest(dir)
	}
	if err := guestTests(dir); err != nil {
		fmt.Println(said + err.Error())
		os.Exit(1)
	}
	os.Exit(0)
}

func run(ctx context.Context) error {
	pattern := flag.String("run", "", "run the tests that match this `pattern` alone, as go test does")
	packages := flag.String("packages", "./pkg/... ./plugins/... ./cmd/...", "the packages whose tests are run")
	limit := flag.Duration("timeout", 40*time.Minute, "end a kernel after this time")
	each := flag.Duration("package-timeout", 10*time.Minute, "end the tests of one package after this time")
	verbose := flag.Bool("v", false, "print tests that passed, too")
	flag.Parse()
	chosen, err := choose(flag.Args())
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("the tests' machines are root on the machine's own files: this needs root")
	}
	cache, err := filepath.Abs(cmp.Or(os.Getenv("BERTH_CACHE"), filepath.Join(cmp.Or(os.Getenv("TMPDIR"), "/var/tmp"), "berth-cache")))
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("/var/tmp", "berth-kernels")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	tests, err := build(ctx, filepath.Join(work, "tests"), strings.Fields(*packages), *pattern, *each)
	if err != nil {
		return err
	}
	var reports []*report
	for _, k := range chosen {
		r := k.test(ctx, cache, filepath.Join(work, k.name), tests, *limit)
		r.print(os.Stdout, *verbose)
		reports = append(reports, r)
	}
	if !summary(os.Stdout, reports) {
		return errors.New("not all tests passed")
	}
	return ctx.Err()
}
