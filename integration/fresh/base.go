package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// debian is the folder of a new Debian, which is made when the cache has none.
func debian(cache string) (string, error) {
	sources, err := sources()
	if err != nil {
		return "", err
	}
	base := filepath.Join(cache, "debian-"+sources[0].codename)
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(base+".lock", os.O_CREATE|os.O_RDWR, 0o600)
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
	if _, err := os.Stat(base); err == nil {
		return base, nil
	}
	fmt.Printf("fresh: debootstrap makes %s, once\n", base)
	part := base + ".part"
	if err := os.RemoveAll(part); err != nil {
		return "", err
	}
	cmd := exec.Command("debootstrap", "--variant=minbase", "--include=ca-certificates,git,make", sources[0].codename, part, sources[0].site)
	cmd.Env = append(os.Environ(), proxies()...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("debootstrap: %w\n%s", err, tail(string(out)))
	}
	return base, os.Rename(part, base)
}

// source is a line of apt's sources.
type source struct{ site, release, codename string }

// sources are those of Debian that the machine has: the release's own first.
func sources() ([]source, error) {
	out, err := output("apt-get", "indextargets", "--format", "$(ORIGIN) $(SITE) $(RELEASE) $(CODENAME) $(COMPONENT)", "Created-By: Packages")
	if err != nil {
		return nil, err
	}
	var all []source
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) == 5 && f[0] == "Debian" && f[4] == "main" {
			all = append(all, source{f[1], f[2], f[3]})
		}
	}
	if len(all) == 0 {
		return nil, errors.New("apt has no source of Debian: is it one, and has `apt-get update` been run?")
	}
	// bookworm, bookworm-updates, bookworm-security
	slices.SortStableFunc(all, func(a, b source) int { return len(a.codename) - len(b.codename) })
	return all, nil
}

// proxies are apt's, as other programs read them from the environment.
func proxies() (env []string) {
	for _, scheme := range []string{"http", "https"} {
		if out, err := output("apt-config", "dump", "--format", "%v", "Acquire::"+scheme+"::Proxy"); err == nil && out != "" {
			env = append(env, scheme+"_proxy="+out)
		}
	}
	return env
}

// aptFiles adds the machine's sources, and how it gets files.
func aptFiles(files map[string]string) error {
	all, err := sources()
	if err != nil {
		return err
	}
	list := ""
	for _, s := range all {
		list += fmt.Sprintf("deb %s %s main\n", s.site, s.release)
	}
	acquire, err := output("apt-config", "dump", "Acquire")
	if err != nil {
		return err
	}
	files["/etc/apt/sources.list"] = list
	files["/etc/apt/apt.conf.d/90machine"] = acquire + "\n"
	files["/usr/sbin/policy-rc.d"] = "#!/bin/sh\nexit 101\n" // no package starts a service
	return nil
}

func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}
