package firewall

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall/allow"
	"github.com/berth-cni/berth/pkg/nstest"
)

func run(t testing.TB, line string) string {
	t.Helper()
	f := strings.Fields(line)
	out, err := nstest.Output(f[0], f[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestForward has another firewall drop what it does not know.
func TestForward(t *testing.T) {
	for _, flavour := range []string{"nft", "legacy"} {
		t.Run(flavour, func(t *testing.T) {
			l := newLab(t, NFTables, false)
			n1, n2 := l.network(1), l.network(2)
			n2.Isolate = true
			l.container("a", n1, 2, attach.Port{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"})
			l.container("c", n2, 2)
			for _, program := range []string{"iptables-", "ip6tables-"} {
				run(t, program+flavour+" -P FORWARD DROP")
				run(t, program+flavour+" -N DOCKER-USER")
				run(t, program+flavour+" -A FORWARD -j DOCKER-USER")
			}
			dropped := func(what string) {
				t.Helper()
				l.expectSoon(what, "a", "tcp", "192.0.2.2:80", noAnswer)
				l.expectSoon(what, "a", "tcp", "[2001:db8:a::2]:80", noAnswer)
				l.expectSoon(what, "out", "tcp", "192.0.2.1:8080", noAnswer)
				l.answers()
			}
			dropped("before")
			ctx := context.Background()
			f := &allow.Forward{Bridge: "br1"}
			if err := f.Check(ctx, nil); err == nil {
				t.Error("Check says that nothing is missing")
			}
			for range 2 {
				if err := f.Add(ctx, nil); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.Check(ctx, nil); err != nil {
				t.Error(err)
			}
			if n := strings.Count(run(t, "iptables-"+flavour+"-save -t filter"), "berth"); n != 2 {
				t.Errorf("%d rules, want 2", n)
			}
			l.expect("to the outside", "a", "tcp", "192.0.2.2:80", "out saw 192.0.2.1")
			l.expect("to the outside", "a", "tcp", "[2001:db8:a::2]:80", "out saw 2001:db8:a::1")
			l.expect("published", "out", "tcp", "192.0.2.1:8080", "a saw 192.0.2.2")
			l.expect("not published", "out", "tcp", "10.1.0.2:80", noAnswer)
			l.expect("another network", "c", "tcp", "192.0.2.2:80", noAnswer)
			if err := f.Del(ctx, nil); err != nil {
				t.Error(err)
			}
			l.expect("after Del", "out", "tcp", "192.0.2.1:8080", "a saw 192.0.2.2")
			for range 2 {
				if err := f.Remove(ctx); err != nil {
					t.Fatal(err)
				}
			}
			dropped("after Remove")
		})
	}
}

// TestForwardNothingDrops forks nothing: no program can be found.
func TestForwardNothingDrops(t *testing.T) {
	nstest.Host(t)
	run(t, "iptables-nft -P FORWARD ACCEPT")
	t.Setenv("PATH", "/nonexistent")
	f := &allow.Forward{Bridge: "br1"}
	if err := f.Add(context.Background(), nil); err != nil {
		t.Error(err)
	}
	if err := f.Check(context.Background(), nil); err != nil {
		t.Error(err)
	}
}

// TestForwardAsks starts no program where the bridge is let through already, and sees
// which of the rules somebody took away.
func TestForwardAsks(t *testing.T) {
	for _, flavour := range []string{"nft", "legacy"} {
		t.Run(flavour, func(t *testing.T) {
			nstest.Host(t)
			programs := []string{"iptables-" + flavour, "ip6tables-" + flavour}
			for _, program := range programs {
				run(t, program+" -P FORWARD DROP")
				run(t, program+" -P INPUT DROP")
				run(t, program+" -N OTHERS")
				run(t, program+" -A FORWARD -j OTHERS")
			}
			f := &allow.Forward{Bridge: "br1", Tunnel: "vxlan1", Names: true}
			if err := (&allow.Forward{Bridge: "br12", Names: true}).Add(t.Context(), nil); err != nil { // another one, whose name begins alike
				t.Fatal(err)
			}
			if err := f.Add(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			path := os.Getenv("PATH")
			t.Setenv("PATH", "/nonexistent")
			if err := errors.Join(f.Add(t.Context(), nil), f.Check(t.Context(), nil)); err != nil {
				t.Errorf("where all is there: %v", err)
			}
			for _, program := range programs {
				for _, rule := range slices.Concat(allow.RulesThrough("br1", "FORWARD"), allow.RulesThrough("vxlan1", "FORWARD"), allow.RulesThrough("br1", "INPUT")) {
					t.Setenv("PATH", path)
					if err := nstest.Run(program, append([]string{"-D", rule.Chain}, rule.Spec...)...); err != nil {
						t.Fatal(err)
					}
					t.Setenv("PATH", "/nonexistent")
					if err := f.Check(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "the "+rule.Chain+" policy of "+strings.TrimSuffix(program, "-nft")+" is drop") {
						t.Errorf("without %s of %s Check says %v", rule, program, err)
					}
					t.Setenv("PATH", path)
					if err := errors.Join(f.Add(t.Context(), nil), f.Check(t.Context(), nil)); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := f.Remove(t.Context()); err != nil {
				t.Error(err)
			}
			for _, program := range programs {
				if left := run(t, program+"-save -t filter"); strings.Contains(left, "br1 ") || strings.Contains(left, "vxlan1") {
					t.Errorf("%s has left:\n%s", program, left)
				}
			}
		})
	}
}

func TestForwardWithoutProgram(t *testing.T) {
	nstest.Host(t)
	run(t, "iptables-nft -P FORWARD DROP")
	run(t, "nft add table inet firewalld")
	t.Setenv("PATH", "/nonexistent")
	err := (&allow.Forward{Bridge: "br1"}).Add(context.Background(), nil)
	for _, want := range []string{"bridge br1", "Debian's package is iptables", "Debian's package is firewalld"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}

// TestForwardFirewalld has a program in firewalld's place that writes down how
// it was called; the table is what tells of firewalld.
func TestForwardFirewalld(t *testing.T) {
	nstest.Host(t)
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	script := "#!/bin/sh\necho \"$@\" >> " + log + "\ncase $* in *query*) grep -q change " + log + ";; esac\n"
	if err := os.WriteFile(filepath.Join(dir, "firewall-cmd"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "nft add table inet firewalld")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	f := &allow.Forward{Bridge: "br1"}
	for _, do := range []func(context.Context) error{
		func(ctx context.Context) error { return f.Add(ctx, nil) },
		func(ctx context.Context) error { return f.Check(ctx, nil) },
		f.Remove,
	} {
		if err := do(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := os.ReadFile(log)
	want := `--zone=trusted --query-interface=br1
--zone=trusted --change-interface=br1
--zone=trusted --query-interface=br1
--zone=trusted --query-interface=br1
--zone=trusted --remove-interface=br1
`
	if string(got) != want {
		t.Errorf("called with\n%s\nwant\n%s", got, want)
	}
}

// Where INPUT drops what it does not know, questions for names are let in by the
// bridge, and nothing else is.
func TestForwardNames(t *testing.T) {
	for _, flavour := range []string{"nft", "legacy"} {
		t.Run(flavour, func(t *testing.T) {
			nstest.Host(t)
			for _, program := range []string{"iptables-", "ip6tables-"} {
				run(t, program+flavour+" -P INPUT DROP")
			}
			before := held(t)
			ctx := context.Background()
			f := &allow.Forward{Bridge: "br1", Names: true}
			if err := f.Check(ctx, nil); err == nil || !strings.Contains(err.Error(), "the INPUT policy of iptables") {
				t.Errorf("Check says %v", err)
			}
			for range 2 {
				if err := f.Add(ctx, nil); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.Check(ctx, nil); err != nil {
				t.Error(err)
			}
			for _, program := range []string{"iptables-", "ip6tables-"} {
				saved := run(t, program+flavour+"-save -t filter")
				for _, proto := range []string{"udp", "tcp"} {
					if n := strings.Count(saved, "-A INPUT -i br1 -p "+proto+" -m conntrack --ctstate DNAT --ctorigdstport 53 "); n != 1 {
						t.Errorf("%s: %d rules for %s, want 1:\n%s", program, n, proto, saved)
					}
				}
			}
			// Who made the policy drop has gone before the network does.
			for _, program := range []string{"iptables-", "ip6tables-"} {
				run(t, program+flavour+" -P INPUT ACCEPT")
			}
			if err := f.Remove(ctx); err != nil {
				t.Error(err)
			}
			for _, program := range []string{"iptables-", "ip6tables-"} {
				run(t, program+flavour+" -P INPUT DROP")
			}
			if after := held(t); stripCounters(after) != stripCounters(before) {
				t.Errorf("left:\n%s", after)
			}
		})
	}
}

// stripCounters drops what counts packets and tells the time.
func stripCounters(saved string) string {
	var b strings.Builder
	for line := range strings.Lines(saved) {
		if line, _, _ = strings.Cut(line, "["); !strings.HasPrefix(line, "#") {
			b.WriteString(strings.TrimSpace(line) + "\n")
		}
	}
	return b.String()
}
