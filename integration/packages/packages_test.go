// Package packages holds that each target of make installs the Debian packages of the
// programs that it runs: those of its recipes, of the shell's scripts in them, and those
// that the Go code of the target starts or looks for.
package packages

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// debian has each program's package.
var debian = map[string]string{
	"aardvark-dns": "aardvark-dns", "busybox": "busybox-static", "conntrack": "conntrack", "containerd": "containerd",
	"chromium": "chromium", "curl": "curl", "debootstrap": "debootstrap", "dnsmasq": "dnsmasq-base", "dnsperf": "dnsperf", "etcd": "etcd-server", "etcdctl": "etcd-client",
	"ethtool": "ethtool", "podman": "podman", "redis-server": "redis-server", "strace": "strace",
	"ip": "iproute2", "bridge": "iproute2", "tc": "iproute2", "ss": "iproute2", "ping": "iputils-ping", "nft": "nftables",
	"iptables": "iptables", "iptables-nft": "iptables", "iptables-legacy": "iptables", "iptables-save": "iptables", "iptables-legacy-save": "iptables", "iptables-nft-save": "iptables",
	"ip6tables": "iptables", "ip6tables-nft": "iptables", "ip6tables-legacy": "iptables", "ip6tables-save": "iptables", "ip6tables-legacy-save": "iptables", "ip6tables-nft-save": "iptables",
	"linux.uml": "user-mode-linux", "qemu-system-x86_64": "qemu-system-x86", "depmod": "kmod", "modprobe": "kmod",
	"kill": "procps", "sysctl": "procps", "dig": "bind9-dnsutils", "nc.openbsd": "netcat-openbsd", "wget": "wget",
	// Every Debian has these.
	"bash": "bash", "sh": "dash", "dpkg-query": "dpkg", "dpkg-deb": "dpkg", "apt-cache": "apt", "apt-get": "apt", "apt-config": "apt", "grep": "grep", "getent": "libc-bin", "ldd": "libc-bin", "tar": "tar", "mount": "mount", "umount": "mount",
	"nsenter": "util-linux", "unshare": "util-linux", "flock": "util-linux", "setsid": "util-linux", "setpriv": "util-linux", "find": "findutils", "xargs": "findutils", "sed": "sed", "hostname": "hostname",
	"basename": "coreutils", "cat": "coreutils", "chmod": "coreutils", "cp": "coreutils", "cut": "coreutils", "date": "coreutils",
	"dd": "coreutils", "dirname": "coreutils", "env": "coreutils", "head": "coreutils", "id": "coreutils", "install": "coreutils",
	"ln": "coreutils", "ls": "coreutils", "mkdir": "coreutils", "mkfifo": "coreutils", "mktemp": "coreutils", "mv": "coreutils",
	"nohup": "coreutils", "readlink": "coreutils", "realpath": "coreutils", "rm": "coreutils", "seq": "coreutils", "sleep": "coreutils",
	"sort": "coreutils", "stat": "coreutils", "tail": "coreutils", "tee": "coreutils", "timeout": "coreutils", "touch": "coreutils",
	"tr": "coreutils", "uniq": "coreutils", "wc": "coreutils",
}

// without has the programs that need no package, and why.
var without = map[string]string{
	"go": "the README asks for it", "git": "the README asks for it", "make": "the README asks for it",
	"berth": "is built", "gotestsum": "is built",
	"firewall-cmd": "asked where firewalld runs",
	"kubectl":      "runs berth as its plugin, or is built",
	"systemd-run":  "asked where systemd has booted the machine",
	"nonexistent":  "is not there",
	"exe":          "is the program itself",
	"dbus-daemon":  "is unpacked by the test", "docker": "is unpacked by the test", "dockerd": "is unpacked by the test", "firewalld": "is unpacked by the test",
}

// builtin are the shell's own.
var builtin = []string{".", ":", "[", "cd", "command", "echo", "exec", "exit", "export", "false", "printf", "set", "test", "trap", "true", "wait"}

// base are the packages that every Debian has.
var base = []string{"apt", "bash", "coreutils", "dash", "dpkg", "findutils", "grep", "hostname", "libc-bin", "mount", "sed", "tar", "util-linux"}

// target is what a target of make runs: programs in Go, by their folders, and all tests or
// benchmarks.
type target struct {
	programs     []string
	tests, bench bool
}

var (
	berth   = []string{"cmd/berth", "plugins/*"}
	targets = map[string]target{
		"build":           {},
		"install":         {},
		"fresh":           {programs: []string{"integration/fresh"}},
		"demo":            {programs: append([]string{"integration/demo"}, berth...)},
		"demo-overlay":    {programs: append([]string{"integration/demo-overlay"}, berth...)},
		"test":            {programs: berth, tests: true},
		"test-browser":    {programs: append([]string{"integration/browser"}, berth...), tests: true},
		"test-kubernetes": {programs: append([]string{"integration/kubernetes/nodes"}, berth...)},
		"test-kernels":    {programs: append([]string{"integration/kernels"}, berth...), tests: true},
		"bench":           {programs: append([]string{"integration/bench", "integration/scale"}, berth...), tests: true, bench: true},
	}
)

// use is a program, and the file that decides that it is run.
type use struct{ program, file string }

// TestTargets: what a target runs is in the packages that it installs.
func TestTargets(t *testing.T) {
	code := []*source{load(t, ".."), load(t, "../..")}
	for name, target := range targets {
		t.Run(name, func(t *testing.T) {
			recipe := recipes(t, name)
			var r reader
			if err := r.script(recipe); err != nil {
				t.Fatalf("read what make runs: %v", err)
			}
			uses := target.uses(code)
			for _, p := range r.programs {
				uses[use{p, "Makefile"}] = true
			}
			check(t, uses, installed(recipe))
		})
	}
}

// recipes are what make runs for a target.
func recipes(t *testing.T, target string) string {
	t.Helper()
	cmd := exec.Command("make", "--no-print-directory", "-n", "-C", "../..", target)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "MAKE") && !strings.HasPrefix(e, "MFLAGS") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("make -n %s: %v", target, err)
	}
	return string(out)
}

var lists = regexp.MustCompile(`for p in ([^;]*); do dpkg-query`)

// installed are the packages of a target.
func installed(recipe string) (all []string) {
	for _, m := range lists.FindAllStringSubmatch(recipe, -1) {
		all = append(all, strings.Fields(m[1])...)
	}
	return all
}

func check(t *testing.T, uses map[use]bool, installed []string) {
	t.Helper()
	if len(uses) == 0 {
		t.Error("runs nothing")
	}
	for u := range uses {
		if without[u.program] != "" || slices.Contains(builtin, u.program) {
			continue
		}
		switch p := debian[u.program]; {
		case p == "":
			t.Errorf("%s runs %s, whose package nobody has said", u.file, u.program)
		case !slices.Contains(base, p) && !slices.Contains(installed, p):
			t.Errorf("%s runs %s, and %s is not among the packages %q", u.file, u.program, p, installed)
		}
	}
}

const module = "github.com/berth-cni/berth/"

// uses are those of a target's Go code.
func (t target) uses(code []*source) map[use]bool {
	imported := t.imported(code)
	all := map[use]bool{}
	for _, s := range code {
		for _, at := range s.execs {
			s.programs(at, func(program string, by site) {
				dir := strings.TrimPrefix(strings.TrimSuffix(by.pkg.PkgPath, "_test"), module)
				file := filepath.Join(dir, filepath.Base(by.file))
				if dir == "integration/packages" {
					return // which looks for all that it knows
				}
				if imported[dir] && !strings.HasSuffix(file, "_test.go") || t.tests && !own(file) && (t.bench || !benchmark(file)) {
					all[use{program, file}] = true
				}
			})
		}
	}
	return all
}

// own says whether a file is of a program that only a target of its own runs.
func own(file string) bool {
	return strings.HasPrefix(file, "integration/browser/") || strings.HasPrefix(file, "integration/fresh/") || strings.HasPrefix(file, "integration/kernels/") || strings.HasPrefix(file, "integration/kubernetes/nodes/")
}

// benchmark says whether only make bench runs a file.
func benchmark(file string) bool {
	return strings.HasPrefix(file, "integration/bench/") || strings.HasPrefix(file, "integration/scale/") ||
		strings.HasPrefix(filepath.Base(file), "bench") && strings.HasSuffix(file, "_test.go")
}

// imported are the folders of a target's programs, and of what they import.
func (t target) imported(code []*source) map[string]bool {
	imports := map[string][]string{}
	for _, s := range code {
		for _, p := range s.pkgs {
			if p.ForTest == "" {
				imports[strings.TrimPrefix(p.PkgPath, module)] = slices.Collect(maps.Keys(p.Imports))
			}
		}
	}
	all := map[string]bool{}
	var add func(dir string)
	add = func(dir string) {
		if _, ours := imports[dir]; !ours || all[dir] {
			return
		}
		all[dir] = true
		for _, path := range imports[dir] {
			add(strings.TrimPrefix(path, module))
		}
	}
	for dir := range imports {
		for _, pattern := range t.programs {
			if ok, _ := filepath.Match(pattern, dir); ok {
				add(dir)
			}
		}
	}
	return all
}

// TestDebian: where Debian's packages are installed, they have the programs.
func TestDebian(t *testing.T) {
	if _, err := exec.LookPath("dpkg-query"); err != nil {
		t.Skip("not a Debian")
	}
	paths := map[string]string{} // of programs
	for program := range debian {
		path, err := exec.LookPath(program)
		if err != nil {
			continue
		}
		if alternative, err := filepath.EvalSymlinks(path); err == nil && strings.HasPrefix(path, "/usr/sbin/") {
			path = alternative
		}
		// Debian's packages have files in /bin still, which is a link to /usr/bin.
		paths[path], paths[strings.TrimPrefix(path, "/usr")] = program, program
	}
	out, _ := exec.Command("dpkg-query", append([]string{"-S"}, slices.Collect(maps.Keys(paths))...)...).Output()
	for line := range strings.Lines(string(out)) {
		owner, path, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if program := paths[path]; program != "" && owner != debian[program] && !strings.HasPrefix(owner, "diversion") {
			t.Errorf("%s is of %s, not of %q", path, owner, debian[program])
		}
	}
	for _, p := range base {
		out, err := exec.Command("dpkg-query", "-W", "-f", "${Essential} ${Priority}", p).Output()
		if err != nil || !strings.Contains(string(out), "yes") && !strings.Contains(string(out), "required") && p != "apt" {
			t.Errorf("%s is not on every Debian: %s %v", p, out, err)
		}
	}
}
