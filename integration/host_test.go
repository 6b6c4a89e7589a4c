package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

const host = `{"type": "host", "capabilities": {"portMappings": true}}`

// settledNetwork is the network after its first container came and went, and the host
// as it is then.
func (b *bed) settledNetwork(name, plugin string) (*sandbox.Network, sandbox.Snapshot) {
	b.t.Helper()
	n := b.only(name, plugin)
	first := b.container("first")
	_, err := n.Add(first)
	must(b.t, err)
	must(b.t, n.Del(first))
	must(b.t, first.Remove())
	return n, b.snapshot()
}

// leads fails the test unless the container's path leads to the host's namespace, or
// does not, and has one mount.
func (b *bed) leads(c *sandbox.Container, toHost bool) {
	b.t.Helper()
	theirs, err := b.Output("stat", "-Lc", "%i", c.Netns)
	must(b.t, err)
	var own string
	must(b.t, b.Do(func() (err error) {
		own, err = os.Readlink("/proc/thread-self/ns/net")
		return err
	}))
	if is := strings.Contains(own, "["+strings.TrimSpace(theirs)+"]"); is != toHost {
		b.t.Errorf("%s leads to the host: %v, want %v", c.Netns, is, toHost)
	}
	n := 0
	for _, line := range b.snapshot()["mount"] {
		if strings.HasSuffix(line, " "+c.Netns) {
			n++
		}
	}
	if n != 1 {
		b.t.Errorf("%d mounts on %s", n, c.Netns)
	}
}

// loIsUp fails the test unless the host's lo is.
func (b *bed) loIsUp(when string) {
	b.t.Helper()
	if out, err := b.Output("ip", "-br", "address", "show", "lo"); err != nil || !strings.Contains(out, "127.0.0.1/8") {
		b.t.Errorf("%s: lo of the host: %s %v", when, out, err)
	}
}

// TestHost is the textbook's: the same interfaces, addresses and routes as the host,
// and a server in the container answers on the host's address without a mapping.
func TestHost(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n, before := b.settledNetwork("host", host)
	must(t, n.Status())
	c := b.container("c1")
	r, addr := b.add(n, c, tcpPort(8080, 80))
	for _, look := range []string{"ip -br link", "ip -br address", "ip route", "ip -6 route"} {
		words := strings.Fields(look)
		want, err := b.Output(words[0], words[1:]...)
		must(t, err)
		if got, err := c.Output(words[0], words[1:]...); err != nil || got != want {
			t.Errorf("%s: the container sees\n%s, the host\n%s", look, got, want)
		}
	}
	serve(t, c, ":8000")
	b.answers(b.outside, sandbox.HostAddr4+":8000", c, sandbox.OutsideAddr4)
	b.answers(b, "127.0.0.1:8000", c, "127.0.0.1")
	b.unreachable(b.outside, sandbox.HostAddr4+":8080", "a published port of host")
	if addr != sandbox.HostAddr4 || len(r.IPs) != 2 || r.IPs[1].Address != sandbox.HostAddr6+"/64" || r.IPs[0].Gateway != sandbox.OutsideAddr4 {
		t.Errorf("addresses %+v", r.IPs)
	}
	if len(r.Interfaces) != 1 || r.Interfaces[0].Name != sandbox.Uplink || r.Interfaces[0].Sandbox != c.Netns || r.Interfaces[0].Mac == "" {
		t.Errorf("interfaces %+v", r.Interfaces)
	}
	if len(r.Routes) != 2 || r.Routes[0].Dst != "0.0.0.0/0" || r.Routes[0].GW != sandbox.OutsideAddr4 {
		t.Errorf("routes %+v", r.Routes)
	}
	if r.IPs[0].Interface != nil {
		t.Errorf("the address is of interface %d, want none, which runtimes take for eth0's", *r.IPs[0].Interface)
	}
	b.leads(c, true)
	must(t, n.Check(c, tcpPort(8080, 80)))
	must(t, n.GC(c))
	must(t, n.Check(c))
	if _, err := n.Add(c); sandbox.Code(err) != 102 {
		t.Errorf("a second ADD: %v", err)
	}
	b.leads(c, true)
	must(t, n.Del(c, tcpPort(8080, 80)))
	b.leads(c, false)
	if got := inside(t, c, "ip", "-br", "link"); !strings.HasPrefix(got, "lo DOWN") {
		t.Errorf("after DEL the namespace has %s", got)
	}
	must(t, c.Remove())
	b.loIsUp("after DEL")
	b.same(before, "after host")
}

// TestHostDel has DEL called in the ways in which runtimes call it. Each time the
// host is as before, and the path is removed at the first try.
func TestHostDel(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n, before := b.settledNetwork("host", host)
	lo := b.only("cni-loopback", `{"type": "loopback"}`)
	other := b.only("host", bridge) // the conflist has changed
	for _, test := range []struct {
		name string
		del  func(*sandbox.Container)
	}{
		{"loopback first", func(c *sandbox.Container) {
			must(t, lo.Del(c, sandbox.IfName("lo")))
			must(t, n.Del(c))
		}},
		{"loopback last", func(c *sandbox.Container) {
			must(t, n.Del(c))
			must(t, lo.Del(c, sandbox.IfName("lo")))
		}},
		{"empty CNI_NETNS", func(c *sandbox.Container) { must(t, n.Del(c, sandbox.Netns(""))) }},
		{"without a cache", func(c *sandbox.Container) {
			must(t, n.DropCache())
			must(t, n.Del(c))
		}},
		{"twice", func(c *sandbox.Container) {
			must(t, n.Del(c))
			must(t, n.Del(c))
		}},
		{"changed to bridge", func(c *sandbox.Container) {
			must(t, n.DropCache())
			must(t, other.Del(c))
		}},
		{"GC", func(c *sandbox.Container) {
			must(t, n.GC())
			must(t, n.Del(c))
		}},
	} {
		c := b.empty(strings.ReplaceAll(test.name, " ", "-"))
		_, err := lo.Add(c, sandbox.IfName("lo"))
		must(t, err)
		b.add(n, c)
		if _, err := lo.Add(c, sandbox.IfName("lo")); err != nil { // after host, as it happens under containerd
			t.Errorf("loopback of a container on host: %v", err)
		}
		must(t, lo.Check(c, sandbox.IfName("lo")))
		b.leads(c, true)
		test.del(c)
		b.leads(c, false)
		must(t, c.Remove())
		must(t, n.DropCache())
		b.loIsUp(test.name)
		b.same(before, test.name)
	}
	c := b.container("gone")
	b.add(n, c)
	must(t, c.Remove())
	must(t, n.Del(c))
	must(t, n.DropCache())
	b.same(before, "DEL of a path that is gone")
}

// TestHostIsNotTouched sends the DEL, and every other verb, of each plugin with a
// path that leads to the host, for a container that is on no record.
func TestHostIsNotTouched(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	_, _ = b.used(bridge)
	own := "/run/netns/own"
	must(t, b.OwnNetns(own))
	for _, eth0 := range []string{"", "eth0"} {
		if eth0 != "" { // a host that has an eth0 of its own
			must(t, b.Script("ip link add eth0 type veth peer name peer0\nip addr add 198.51.100.1/24 dev eth0\nip link set eth0 up"))
		}
		before := b.snapshot()
		for _, plugin := range []string{bridge, none, host, `{"type": "loopback"}`, `{"type": "container-share", "container": "x"}`} {
			name := strings.Split(plugin, `"`)[3]
			for _, verb := range []string{"ADD", "CHECK", "DEL"} {
				call := sandbox.Call{Plugin: filepath.Join(b.bin, name), Verb: verb, Container: "stranger", Netns: own, Config: config(version, plugin)}
				r := b.call(call)
				if verb == "DEL" {
					b.good(r)
				} else if r.Exit == 0 {
					t.Errorf("%s of %s in the host's namespace is not refused", verb, name)
				}
				b.same(before, verb+" of "+name)
			}
		}
	}
	b.loIsUp("after all")
}

// processIn starts a process in a container until the test ends, and returns the path of its
// namespace in /proc.
func (b *bed) processIn(c *sandbox.Container) string {
	b.t.Helper()
	sleep := exec.Command("sleep", "600")
	must(b.t, c.Do(sleep.Start))
	b.t.Cleanup(func() {
		_ = sleep.Process.Kill()
		_ = sleep.Wait()
	})
	return fmt.Sprintf("/proc/%d/ns/net", sleep.Process.Pid)
}

// TestHostRefuses asks host for what it cannot do.
func TestHostRefuses(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	c := b.container("c1")
	busy := b.container("busy")
	b.add(b.network(bridge), busy)
	inProc := b.processIn(c)
	before := b.snapshot()
	for _, test := range []struct {
		call  sandbox.Call
		code  uint
		words []string
	}{
		{sandbox.Call{Netns: inProc}, 4, []string{"/run/netns/NAME"}},
		{sandbox.Call{Netns: busy.Netns}, 7, []string{"eth0", "lost"}},
		{sandbox.Call{Args: "IP=10.1.0.2"}, 7, []string{"CNI_ARGS IP"}},
		{sandbox.Call{Config: config(version, host, `"ipam": {"type": "host-local"}`)}, 7, []string{"ipam"}},
		{sandbox.Call{Config: config(version, host, `"prevResult": {"cniVersion": "1.1.0", "interfaces": [{"name": "eth9"}]}`)}, 7, []string{"first plugin"}},
	} {
		test.call.Verb, test.call.Container, test.call.Plugin = "ADD", c.ID, filepath.Join(b.bin, "host")
		if test.call.Config == "" {
			test.call.Config = config(version, host)
		}
		if test.call.Netns == "" {
			test.call.Netns = c.Netns
		}
		b.refused(b.call(test.call), test.code, test.words...)
	}
	b.same(before, "after refusals")
	b.leads(c, false)

	published := sandbox.Call{Verb: "ADD", Container: c.ID, Netns: c.Netns, Plugin: filepath.Join(b.bin, "host"), Config: config(version, host,
		`"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}`)}
	if r := b.good(b.call(published)); !strings.Contains(r.Stderr, "published ports") || !strings.Contains(r.Stderr, "ignored") {
		t.Errorf("no warning about published ports: %q", r.Stderr)
	}
}

// TestHostVersions runs ADD, CHECK and DEL in every version.
func TestHostVersions(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	_, before := b.settledNetwork("demo", host)
	for _, v := range versions {
		c := b.container("v" + v)
		call := sandbox.Call{Verb: "ADD", Plugin: filepath.Join(b.bin, "host"), Container: c.ID, Netns: c.Netns, Config: config(v, host)}
		out := b.good(b.call(call)).Stdout
		want := slices.DeleteFunc(wantShape(v), func(k string) bool { return k == "ips.interface" })
		got := slices.DeleteFunc(shape(t, out), func(k string) bool {
			return k == "routes.gw" || strings.HasSuffix(k, "routes.gw") || k == "ips.interface"
		})
		if !slices.Equal(got, want) {
			t.Errorf("%s: the result has the keys\n%v, want\n%v", v, got, want)
		}
		call.Config = config(v, host, `"prevResult": `+out)
		if call.Verb = "CHECK"; v >= "0.4.0" {
			b.good(b.call(call))
		}
		call.Verb = "DEL"
		b.good(b.call(call))
		must(t, c.Remove())
	}
	b.same(before, "after all versions")
}

// mountCalls are the syscalls before each of which a mode that replaces the mount is
// killed.
var mountCalls = []string{"open_tree", "move_mount", "umount2", "unshare", "setns", "pwrite64", "fdatasync", "openat", "sendto", "write", "exit_group"}

// TestKillHost kills ADD and DEL before each syscall; one DEL later the host is as
// before, and the path is removed at the first try.
func TestKillHost(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	_, before := b.settledNetwork("demo", host)
	b.killRebind(before, "host", config(version, host))
}

func (b *bed) killRebind(before sandbox.Snapshot, plugin, conf string) {
	b.t.Helper()
	hits := 0
	for _, verb := range []string{"ADD", "DEL"} {
		for _, name := range mountCalls {
			for i, survived := 1, false; !survived && i <= 40; i++ {
				c := b.container("victim")
				call := sandbox.Call{Plugin: filepath.Join(b.bin, plugin), Container: c.ID, Netns: c.Netns, Config: conf, Verb: "ADD"}
				if verb == "DEL" {
					b.good(b.call(call))
				}
				call.Verb, call.Wrap = verb, []string{"strace", "-f", "-qq", "-o", "/dev/null", "-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", name, i)}
				survived = b.call(call).Exit == 0
				if !survived {
					hits++
				}
				call.Verb, call.Wrap = "DEL", nil
				b.good(b.call(call))
				b.leads(c, false)
				must(b.t, c.Remove())
				if diff := before.Diff(b.snapshot()); diff != nil {
					b.t.Fatalf("%s killed before %s number %d, left behind:\n%s", verb, name, i, strings.Join(diff, "\n"))
				}
			}
		}
	}
	b.loIsUp("after all kills")
	b.t.Logf("killed %d times", hits)
	if hits < 40 {
		b.t.Errorf("killed %d times only", hits)
	}
}

// TestHostBesideLoopback has both called at the same time for one container, as
// containerd does at its start.
func TestHostBesideLoopback(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n, before := b.settledNetwork("host", host)
	lo := b.only("cni-loopback", `{"type": "loopback"}`)
	for i := range 30 {
		c := b.empty(fmt.Sprintf("c%d", i))
		second := make(chan error)
		go func() {
			_, err := lo.Add(c, sandbox.IfName("lo"))
			second <- err
		}()
		_, err := n.Add(c)
		must(t, err)
		if err := <-second; err != nil {
			t.Errorf("loopback beside host: %v", err)
		}
		b.leads(c, true)
		go func() { second <- lo.Del(c, sandbox.IfName("lo")) }()
		must(t, n.Del(c))
		must(t, <-second)
		must(t, c.Remove())
	}
	must(t, n.DropCache())
	b.loIsUp("after all")
	b.same(before, "after all")
}
