package integration

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// netDir is where the host of a test has its networks.
const netDir = "/run/net.d"

// berth runs the people's program on the host.
func (b *bed) berth(command string) (string, error) {
	args := strings.Fields(command)
	if args[0] == "network" {
		args = append(args, "--net-dir", netDir, "--bin-dir", b.bin)
	}
	return b.Output(filepath.Join(b.bin, "berth"), args...)
}

// does fails the test when the program fails.
func (b *bed) does(command string) string {
	b.t.Helper()
	out, err := b.berth(command)
	must(b.t, err)
	return out
}

// fails fails the test unless the program fails, and says that.
func (b *bed) fails(command, why string) {
	b.t.Helper()
	if out, err := b.berth(command); err == nil || !strings.Contains(out, why) {
		b.t.Errorf("berth %s: %v, %q; want a failure, and %q", command, err, out, why)
	}
}

// file is a network that the program has made, as runtimes find it.
func (b *bed) file(name string) *sandbox.Network {
	b.t.Helper()
	var data []byte
	must(b.t, b.Do(func() (err error) {
		data, err = os.ReadFile(filepath.Join(netDir, name+".conflist"))
		return err
	}))
	n, err := b.Network(string(data), b.bin)
	must(b.t, err)
	return n
}

// lone fails the test if one pings the other.
func (k *known) lone(address string) {
	k.t.Helper()
	if out, err := k.Output("ping", "-c1", "-W1", address); err == nil {
		k.t.Errorf("%s reaches %s:\n%s", k.name, address, out)
	}
}

// onlyWhatStays fails the test when something is left, but for the agent, which ends by
// itself.
func (b *bed) onlyWhatStays(before sandbox.Snapshot) {
	b.t.Helper()
	after := b.snapshot()
	for _, s := range []sandbox.Snapshot{before, after} {
		delete(s, "process")
		delete(s, "file") // its socket and locks
	}
	if diff := before.Diff(after); diff != nil {
		b.t.Errorf("the host is not as before:\n%s", strings.Join(diff, "\n"))
	}
}

// TestPeople is the textbook's my-bridge: two networks that do not reach each other,
// and a container that is connected to the second.
func TestPeople(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.does("network create tmp") // what the first container of a host leaves by design
	b.named(b.file("tmp"), "zero").leave()
	b.does("network rm tmp")
	before := b.snapshot()

	b.does("network create first")
	b.does("network create my-bridge --label team=web")
	first, mine := b.file("first"), b.file("my-bridge")
	one, two, three := b.named(first, "test1"), b.named(first, "test2"), b.named(mine, "test3")
	one.finds("test2", two.addr)
	two.lone(three.addr)

	b.does("network connect my-bridge test2 --ip 172.18.0.99 --alias db --publish 8088:80")
	serve(t, two.Container, ":80")
	serve(t, three.Container, ":80")
	b.answers(two, three.addr+":80", three.Container, "172.18.0.99")
	b.answers(three, "172.18.0.99:80", two.Container, three.addr)
	b.answers(b.outside, sandbox.HostAddr4+":8088", two.Container, sandbox.OutsideAddr4)
	two.finds("test3", three.addr)
	three.finds("test2", "172.18.0.99")
	three.finds("db", "172.18.0.99")
	one.lone(three.addr)
	if got := inside(t, two.Container, "ip", "route", "show", "default"); got != "default via 172.17.0.1 dev eth0" {
		t.Errorf("the default route is %q now", got)
	}
	b.fails("network connect my-bridge test2", "is connected already, as eth1")
	b.fails("network rm first my-bridge", "network my-bridge: is used by test2, test3")
	if got := b.does("network prune --force"); !strings.Contains(got, "No network is unused") {
		t.Errorf("prune: %s", got)
	}
	if out := strings.Join(strings.Fields(b.does("network inspect --format table my-bridge")), " "); !strings.Contains(out, "test2 eth1 172.18.0.99 8088->80/tcp test2,db") {
		t.Errorf("inspect: %q", out)
	}

	// The runtime does not know of the connection: what it says is valid does not end it.
	must(t, mine.GC(three.Container))
	b.answers(two, three.addr+":80", three.Container, "172.18.0.99")
	b.does("network disconnect my-bridge test2")
	two.lone(three.addr)
	three.knowsNot("db")

	// What the runtime attached goes, and the container's end ends what a person made.
	b.does("network connect my-bridge " + two.Netns)
	b.does("network disconnect first test2")
	if got := inside(t, two.Container, "ip", "-br", "link"); strings.Contains(got, "eth0") || !strings.Contains(got, "eth1") {
		t.Errorf("test2 has\n%s", got)
	}
	must(t, first.GC(one.Container, two.Container))
	b.answers(two, three.addr+":80", three.Container, "") // by address: its resolv.conf names a gateway that it has lost
	two.leave()
	if out := b.does("ps -q"); out != "test1\ntest3\n" {
		t.Errorf("attached: %q", out)
	}
	three.knowsNot("test2")
	three.leave()
	b.does("network rm my-bridge")
	one.leave()
	b.does("network prune --force")
	if out := b.does("network ls --format {{.Name}}"); out != "host\nnone\n" {
		t.Errorf("left: %q", out)
	}
	b.onlyWhatStays(before)
}

// TestPeopleDocker: what Docker's connect takes.
func TestPeopleDocker(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.endAgent()
	b.does("network create front")
	b.does("network create back --opt com.docker.network.bridge.host_binding_ipv4=127.0.0.1")
	one, two := b.named(b.file("front"), "one"), b.named(b.file("back"), "two")
	b.fails("network connect back one --link one", "one is not on the network")
	b.fails("network connect back one --link two:a/b", "a/b: ")
	b.fails("network connect back one --driver-opt com.docker.network.endpoint.ifname=eth0", "has one of that name")
	id := strings.TrimSpace(b.does("network ls -q -f name=back"))
	neighbour := b.named(b.file("back"), "three")
	b.does("network connect " + id + " one --link two --link two:db --link " + two.ID + ":byid --gw-priority -1 --driver-opt com.docker.network.endpoint.ifname=web0 --ip 172.18.0.77 -p 8099:80")
	if got := inside(t, one.Container, "ip", "-br", "-4", "address", "show", "web0"); !strings.Contains(got, "172.18.0.77/16") {
		t.Errorf("web0: %s", got)
	}
	if got := b.does("ps -f network=back -f name=one --format {{.Ports}}"); got != "127.0.0.1:8099->80/tcp\n" {
		t.Errorf("published %q", got)
	}
	for _, name := range []string{"two", "db", "byid"} {
		one.finds(name, two.addr)
	}
	two.knowsNot("db")
	neighbour.knowsNot("db")
	b.does("network disconnect back one")
	one.knowsNot("db")
	b.does("network connect back one --link two:db")
	two.leave() // a name stands for who comes back under it
	two = b.named(b.file("back"), "two")
	one.finds("db", two.addr)
	one.leave()
	two.leave()
	neighbour.leave()
	b.does("network rm " + id + " front")
}

// TestPeoplePriority: a container goes out by the network of the highest priority above 0,
// and by the next one when it is disconnected from that, at last by the one that its runtime
// attached it to.
func TestPeoplePriority(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.endAgent()
	for _, name := range []string{"front", "ten", "twenty", "same", "never"} {
		b.does("network create --ipv6 " + name)
	}
	b.does("network create --internal vault")
	one := b.named(b.file("front"), "one")
	out := func(want string) {
		t.Helper()
		for _, to := range []string{sandbox.OutsideAddr4, "203.0.113.9", "3fff::9"} {
			if got := inside(t, one.Container, "ip", "route", "get", to); !strings.Contains(got, " dev "+want+" ") {
				t.Errorf("to %s by %s, want %s", to, got, want)
			}
		}
		if _, err := one.Output("ping", "-c1", "-W5", sandbox.OutsideAddr4); err != nil {
			t.Errorf("by %s: %v", want, err)
		}
	}
	check := func() {
		t.Helper()
		must(t, one.n.Check(one.Container, one.opts...))
		b.does("reload")
	}
	out("eth0")
	b.does("network connect ten one --gw-priority 10")
	out("eth1")
	b.does("network connect twenty one --gw-priority 20")
	out("eth2")
	check()
	b.does("network connect same one --gw-priority 20 --publish 8097:80")
	out("eth2")
	serve(t, one.Container, ":80")
	b.answers(b.outside, sandbox.HostAddr4+":8097", one.Container, sandbox.OutsideAddr4) // who came by another network
	b.does("network connect never one --gw-priority -1")
	out("eth2")
	if got := b.does("network connect vault one --gw-priority 30"); !strings.Contains(got, "eth5") {
		t.Errorf("connected: %s", got)
	}
	out("eth2")
	if got := inside(t, one.Container, "ip", "route", "show", "default"); !strings.HasSuffix(got, "dev eth0") {
		t.Errorf("the default route is %q now", got)
	}
	b.does("network disconnect twenty one")
	out("eth3")
	b.does("network disconnect same one")
	out("eth1")
	check()
	b.does("network disconnect ten one")
	out("eth0")
	b.does("network connect ten one --gw-priority 1")
	out("eth1")
	b.fails("network connect twenty one --gw-priority 16777216", "16777215")
	one.leave()
	if out := b.does("ps -q"); out != "" {
		t.Errorf("attached: %q", out)
	}
	b.does("network rm front ten twenty same never vault")
}

// TestPeopleTake: a container that a person named by the path of its namespace has no
// runtime that would end the connection; its record is found when it has gone.
func TestPeopleTake(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.endAgent()
	b.does("network create one --internal")
	c := b.container("box")
	b.does("network connect one " + c.Netns + " --mac 02:00:00:00:00:17")
	if got := inside(t, c, "ip", "link", "show", "eth0"); !strings.Contains(got, "02:00:00:00:00:17") {
		t.Errorf("eth0: %s", got)
	}
	if got := inside(t, c, "ip", "route"); strings.Contains(got, "default") {
		t.Errorf("routes: %s", got)
	}
	must(t, b.file("one").GC()) // a runtime has no say, while the namespace lives
	id := strings.TrimSpace(b.does("ps -q"))
	must(t, c.Remove())
	b.fails("network rm one", "whose namespace is gone")
	b.fails("network connect one /run/netns/box", "there is no such namespace")
	b.does("network disconnect one " + id[:len(id)-1])
	b.does("network rm one")
}

// TestPeopleWayOut: a container without a way out gets that of the network that it is
// connected to; one that is connected to an internal one keeps its own.
func TestPeopleWayOut(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.endAgent()
	b.does("network create back --internal")
	b.does("network create front --ipv6")
	inner, outer := b.named(b.file("back"), "inner"), b.named(b.file("front"), "outer")
	serve(t, b.outside, ":80")
	if answer, err := inner.Ask(sandbox.OutsideAddr4 + ":80"); err == nil {
		t.Errorf("an internal network leads outside: %s", answer)
	}
	b.does("network connect front inner")
	b.does("network connect back outer")
	for _, k := range []*known{inner, outer} {
		b.answers(k, sandbox.OutsideAddr4+":80", b.outside, sandbox.HostAddr4)
	}
	if got := inside(t, inner.Container, "ip", "-6", "route", "show", "default"); !strings.Contains(got, "dev eth1") {
		t.Errorf("IPv6: %q", got)
	}
	b.does("network disconnect front inner")
	if _, err := inner.Ask(sandbox.OutsideAddr4 + ":80"); err == nil {
		t.Error("the way out is still there")
	}
	inner.leave()
	outer.leave()
	b.does("network rm front back")
}

// TestPeopleModes: containers without a network of their own have no other, as with
// Docker.
func TestPeopleModes(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.endAgent()
	b.does("network create one")
	owner := b.named(b.file("one"), "owner")
	b.does("network create two")
	for _, mode := range []struct{ plugin, why string }{
		{`{"type": "none"}`, "of the network none"}, {`{"type": "host"}`, "with the host's network"}, {share("owner"), "shares the network of another one"},
	} {
		n := b.only("mode", mode.plugin)
		c := b.container("guest")
		must2(t)(n.Add(c))
		b.fails("network connect two guest", mode.why)
		must(t, n.Del(c))
		must(t, c.Remove())
	}
	b.fails("network connect host owner", "with the host's network")
	b.fails("network connect none owner", "of the network none")
	owner.leave()
}

func must2(t *testing.T) func(any, error) {
	return func(_ any, err error) { t.Helper(); must(t, err) }
}

// TestPeopleMacvlan makes a network on the wire to the outside, and connects a
// container that is on a bridge.
func TestPeopleMacvlan(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.endAgent()
	line, err := b.Output("ip", "-o", "route", "get", sandbox.OutsideAddr4)
	must(t, err)
	words := strings.Fields(line)
	wire := words[2]
	prefix := sandbox.OutsideAddr4[:strings.LastIndexByte(sandbox.OutsideAddr4, '.')]
	b.fails("network create lan --driver macvlan --subnet "+prefix+".0/24", "--opt parent=eth0")
	b.does("network create lan --driver macvlan --subnet " + prefix + ".0/24 --gateway " + prefix + ".254 --ip-range " + prefix + ".128/26 --opt parent=" + wire)
	b.does("network create one")
	c := b.named(b.file("one"), "box")
	b.does("network connect lan box")
	serve(t, c.Container, ":80")
	b.answers(b.outside, prefix+".128:80", c.Container, sandbox.OutsideAddr4)
	c.leave()
	b.does("network rm lan one")
}

// TestPeopleAtOnce: twenty processes make a network each, and each gets a subnet of
// its own.
func TestPeopleAtOnce(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if out, err := b.berth("network create n" + string(rune('a'+i))); err != nil {
				t.Error(out, err)
			}
		})
	}
	all.Wait()
	seen := map[string]bool{}
	for line := range strings.Lines(b.does("network ls --filter driver=bridge --format {{.Subnets}}")) {
		seen[line] = true
	}
	if len(seen) != 20 {
		t.Errorf("%d subnets: %v", len(seen), seen)
	}
}
