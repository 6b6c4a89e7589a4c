package pkg_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// calls are what only some packages may do, besides what [only] says of imports.
var calls = []struct {
	what  string
	users []string
	found func(f *ast.File, n ast.Node) bool
}{
	{"enters another namespace (setns(2))", []string{"pkg/link"},
		func(_ *ast.File, n ast.Node) bool { return selects(n, "Setns") || selects(n, "SYS_SETNS") }},
	{"opens a netlink socket", []string{"pkg/internal/netlink"},
		func(_ *ast.File, n ast.Node) bool { return selects(n, "AF_NETLINK") || selects(n, "NetlinkRIB") }},
	{"runs a program of the firewall", []string{"pkg/firewall"}, runsFirewall},
}

// testers are packages for tests alone.
var testers = []string{"pkg/nstest", "pkg/steptest", "pkg/cni/cnitest", "pkg/overlay/overlaytest"}

// selects reports whether the node is a name of one of the packages of system calls.
func selects(n ast.Node, name string) bool {
	s, ok := n.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != name {
		return false
	}
	p, ok := s.X.(*ast.Ident)
	return ok && (p.Name == "unix" || p.Name == "syscall")
}

// runsFirewall reports whether the node is a call that names such a program, in a file
// that starts programs.
func runsFirewall(f *ast.File, n ast.Node) bool {
	call, ok := n.(*ast.CallExpr)
	execs := slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"os/exec"` })
	return ok && execs && slices.ContainsFunc(call.Args, func(arg ast.Expr) bool {
		lit, ok := arg.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return false
		}
		name, _ := strconv.Unquote(lit.Value)
		name = strings.TrimPrefix(filepath.Base(name), "ip6")
		return name == "nft" || name == "conntrack" || name == "ipset" || name == "firewall-cmd" || strings.HasPrefix(strings.TrimPrefix(name, "ip"), "tables")
	})
}

// root is the module.
var root = os.DirFS("..")

// offences are the calls in a file that its package may not make.
func offences(set *token.FileSet, f *ast.File, dir string) (all []string) {
	ast.Inspect(f, func(n ast.Node) bool {
		for _, c := range calls {
			if n != nil && c.found(f, n) && !slices.ContainsFunc(c.users, func(user string) bool { return within(dir, user) }) {
				all = append(all, fmt.Sprintf("%s %s: only %v may", set.Position(n.Pos()), c.what, c.users))
			}
		}
		return true
	})
	return all
}

// What speaks to the kernel is in one place, by whatever call it does so.
func TestCallsInTheirPlace(t *testing.T) {
	files := 0
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		dir := filepath.ToSlash(filepath.Dir(path))
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") ||
			row(dir) < 0 || slices.Contains(testers, dir) {
			return err
		}
		files++
		src, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, src, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, o := range offences(set, f, dir) {
			t.Error(o)
		}
		return nil
	})
	if err != nil || files < 100 {
		t.Errorf("looked at %d files, %v", files, err)
	}
}

// The test above sees what it is to see.
func TestOffences(t *testing.T) {
	for src, want := range map[string]int{
		`import "golang.org/x/sys/unix"; func f() { unix.Setns(1, unix.CLONE_NEWNET) }`:                             1,
		`import "syscall"; func f() { syscall.RawSyscall(syscall.SYS_SETNS, 1, 0, 0) }`:                             1,
		`import "golang.org/x/sys/unix"; func f() { unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, 0) }`:               1,
		`import "syscall"; func f() { syscall.NetlinkRIB(18, 0) }`:                                                  1,
		`import "os/exec"; func f() { exec.Command("nft", "list") }`:                                                1,
		`import "os/exec"; func f() { exec.Command("/usr/sbin/ip6tables-save") }`:                                   1,
		`import "os/exec"; func f() { run("iptables") }`:                                                            1,
		`import "os/exec"; func f() { exec.Command("ip6tables-legacy"); exec.Command("conntrack", "-D") }`:          2,
		`import "os/exec"; func f() { exec.Command("sh"); exec.Command("ip", "link") }`:                             0,
		`func f() { flag("iptables") }`:                                                                             0,
		`import "golang.org/x/sys/unix"; func f() { unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0); x.Setns(1, 2) }`: 0,
	} {
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, "f.go", "package p; "+src, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := offences(set, f, "cmd/berth"); len(got) != want {
			t.Errorf("%s: %v, want %d offences", src, got, want)
		}
	}
}
