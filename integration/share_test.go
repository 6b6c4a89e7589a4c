package integration

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

func share(with string) string {
	return `{"type": "container-share", "capabilities": {"portMappings": true, "ips": true, "mac": true}, "container": "` + with + `"}`
}

const podArgs = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod"

// shared is a host with an owner on a bridge and its name, and what was there before.
func shared(t *testing.T) (b *bed, n *sandbox.Network, before sandbox.Snapshot, owner *sandbox.Container, addr string) {
	t.Helper()
	b = newBed(t)
	n, before = b.used(bridge)
	owner = b.container("0123456789ab")
	_, addr = b.add(n, owner, tcpPort(8080, 80), sandbox.Arg("IgnoreUnknown", "1"), sandbox.Arg("K8S_POD_NAMESPACE", "default"), sandbox.Arg("K8S_POD_NAME", "web"))
	return b, n, before, owner, addr
}

// TestShare is the textbook's: both see the same eth0, address and ports, and talk
// over lo; when the owner goes, eth0 is gone and lo remains.
func TestShare(t *testing.T) {
	t.Parallel()
	b, n, before, owner, addr := shared(t)
	sn := b.only("share", share("web"))
	must(t, sn.Status())
	c := b.container("joined")
	r, got := b.add(sn, c)
	if got != addr || len(r.IPs) != 2 || r.IPs[0].Gateway != gateway {
		t.Errorf("addresses %+v, want those of the owner, %s", r.IPs, addr)
	}
	if r.IPs[0].Interface == nil || *r.IPs[0].Interface != 0 {
		t.Errorf("the address is of interface %v, want that of eth0", r.IPs[0].Interface)
	}
	if len(r.Interfaces) != 1 || r.Interfaces[0].Name != "eth0" || r.Interfaces[0].Sandbox != c.Netns ||
		!strings.Contains(inside(t, owner, "ip", "link", "show", "eth0"), r.Interfaces[0].Mac) {
		t.Errorf("interfaces %+v", r.Interfaces)
	}
	if len(r.Routes) != 2 || r.Routes[0].Dst != "0.0.0.0/0" {
		t.Errorf("routes %+v", r.Routes)
	}
	if a, b := inside(t, owner, "ip", "address"), inside(t, c, "ip", "address"); a != b {
		t.Errorf("the owner sees\n%s\nthe joined container\n%s", a, b)
	}
	serve(t, c, ":80")
	if stop, err := owner.Serve(":80"); err == nil {
		stop()
		t.Error("both listen on one port")
	}
	b.answers(owner, "127.0.0.1:80", c, "127.0.0.1")
	b.answers(b.outside, sandbox.HostAddr4+":8080", c, sandbox.OutsideAddr4) // the owner's port
	must(t, sn.Check(c))
	must(t, sn.GC(c))
	must(t, sn.Check(c))

	must(t, n.Del(owner, tcpPort(8080, 80)))
	must(t, owner.Remove())
	if got := inside(t, c, "ip", "-br", "address"); got != "lo UNKNOWN 127.0.0.1/8 ::1/128" {
		t.Errorf("after the owner's end the joined container has %s", got)
	}
	b.answers(c, "127.0.0.1:80", c, "127.0.0.1")
	if err := sn.Check(c); err == nil || !strings.Contains(err.Error(), "owner") || !strings.Contains(err.Error(), owner.ID) {
		t.Errorf("CHECK after the owner's end: %v", err)
	}
	must(t, sn.Del(c))
	must(t, sn.Del(c))
	must(t, c.Remove())
	b.same(before, "after share")
}

// TestShareDelFirst deletes the joined container before the owner, who is not
// touched; loopback's DEL comes first, as under containerd.
func TestShareDelFirst(t *testing.T) {
	t.Parallel()
	b, n, before, owner, addr := shared(t)
	lo := b.only("cni-loopback", `{"type": "loopback"}`)
	serve(t, owner, ":80")
	for name, del := range map[string]func(*sandbox.Network, *sandbox.Container){
		"a": func(sn *sandbox.Network, c *sandbox.Container) {
			must(t, lo.Del(c, sandbox.IfName("lo")))
			must(t, sn.Del(c))
		},
		"b": func(sn *sandbox.Network, c *sandbox.Container) { must(t, sn.Del(c, sandbox.Netns(""))) },
		"c": func(sn *sandbox.Network, c *sandbox.Container) { must(t, sn.GC()) },
		"d": func(sn *sandbox.Network, c *sandbox.Container) { // today's file says bridge
			must(t, sn.DropCache())
			must(t, b.only("share", bridge).Del(c))
		},
		"e": func(sn *sandbox.Network, c *sandbox.Container) {
			must(t, c.Remove())
			must(t, sn.Del(c))
			b.empty("e") // for the rest
		},
	} {
		sn := b.only("share", share("web"))
		c := b.empty(name)
		_, err := lo.Add(c, sandbox.IfName("lo"))
		must(t, err)
		b.add(sn, c)
		del(sn, c)
		if got := inside(t, c, "ip", "-br", "link"); !strings.HasPrefix(got, "lo DOWN") {
			t.Errorf("%s: after DEL the namespace has %s", name, got)
		}
		must(t, c.Remove())
		b.answers(b, addr+":80", owner, "")
		b.answers(owner, "127.0.0.1:80", owner, "127.0.0.1")
		must(t, n.Check(owner, tcpPort(8080, 80)))
	}
	must(t, n.DropCache())
	must(t, n.Del(owner, tcpPort(8080, 80)))
	must(t, owner.Remove())
	b.same(before, "after share")
}

// shareCall runs container-share by exec.
func (b *bed) shareCall(verb string, c *sandbox.Container, conf, args string) sandbox.Reply {
	b.t.Helper()
	return b.call(sandbox.Call{Plugin: filepath.Join(b.bin, "container-share"), Verb: verb, Container: c.ID, Netns: c.Netns, Config: conf, Args: args})
}

// TestShareTargets names the target in each of the ways.
func TestShareTargets(t *testing.T) {
	t.Parallel()
	b, _, _, owner, addr := shared(t)
	none1 := b.container("lonely")
	b.add(b.only("nothing", none), none1)
	hosted := b.container("hosted")
	b.add(b.only("host", host), hosted)
	plain := `{"type": "container-share"}`
	for i, test := range []struct{ conf, args, want string }{
		{config(version, share(owner.ID)), "", addr},
		{config(version, share("0123")), "", addr},
		{config(version, share("web")), podArgs, addr},
		{config(version, share("default/web")), podArgs, addr},
		{config(version, plain, `"args": {"cni": {"container": "web"}}`), "", addr},
		{config(version, plain), "CONTAINER=web", addr},
		{config(version, plain, `"netnsPath": "`+owner.Netns+`"`), "", addr},
		{config(version, share("lonely")), "", "127.0.0.1"},
		{config(version, share("hosted")), "", sandbox.HostAddr4},
		{config(version, share("joined0")), "", addr}, // a chain of sharing
		{config(version, plain, `"netnsPath": "`+b.outside.Netns+`"`), "", sandbox.OutsideAddr4},
	} {
		c := b.container(fmt.Sprintf("joined%d", i))
		out := b.good(b.shareCall("ADD", c, test.conf, test.args)).Stdout
		if got := strings.Split(addresses(t, out)[0], "/")[0]; got != test.want {
			t.Errorf("%s %s: address %s, want %s", test.conf, test.args, got, test.want)
		}
		b.good(b.shareCall("CHECK", c, config(version, plain, `"prevResult": `+out), ""))
		b.leads(c, test.want == sandbox.HostAddr4)
		if i > 0 { // the first one is a target
			b.good(b.shareCall("DEL", c, test.conf, test.args))
			must(t, c.Remove())
		}
	}
	b.loIsUp("after sharing with a container on host")
}

// TestShareRefuses names what cannot be joined, and asks for what a sharing
// container cannot have.
func TestShareRefuses(t *testing.T) {
	t.Parallel()
	b, n, _, owner, _ := shared(t)
	twin := b.container("0123456789cd")
	b.add(n, twin, sandbox.Arg("IgnoreUnknown", "1"), sandbox.Arg("K8S_POD_NAME", "web2"))
	c := b.container("c1")
	gone := b.container("gone")
	b.add(n, gone)
	must(t, gone.Remove())
	orphan, parent := b.container("orphan"), b.container("parent")
	b.add(n, parent)
	b.add(b.only("share", share("parent")), orphan)
	must(t, n.Del(parent))
	before := b.snapshot()
	plain := `{"type": "container-share"}`
	for _, test := range []struct {
		netns, conf, args string
		code              uint
		words             []string
	}{
		{"", config(version, share("nobody")), "", 7, []string{"container", "nobody"}},
		{"", config(version, share("0123456789")), "", 7, []string{"2 containers", owner.ID, twin.ID}},
		{"", config(version, share("gone")), "", 7, []string{"gone"}},
		{"", config(version, share("orphan")), "", 7, []string{"parent", "gone"}},
		{"", config(version, plain), "", 7, []string{"container"}},
		{"", config(version, share("web")), "CONTAINER=other", 7, []string{"CNI_ARGS CONTAINER", "other", "web"}},
		{"", config(version, share("web"), `"netnsPath": "/run/netns/x"`), "", 7, []string{"netnsPath"}},
		{"", config(version, plain, `"netnsPath": "netns/x"`), "", 7, []string{"netnsPath", "absolute"}},
		{"", config(version, plain, `"netnsPath": "/run/netns/x"`), "", 7, []string{"/run/netns/x"}},
		{"", config(version, plain, `"netnsPath": "/proc/1/ns/net"`), "", 7, []string{"netnsPath", "/run/netns/NAME"}},
		{"", config(version, plain, `"netnsPath": "`+c.Netns+`"`), "", 7, []string{"itself"}},
		{"/proc/thread-self/ns/net", config(version, share("web")), "", 4, nil},
		{"", config(version, share("web"), `"runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80}]}`), "", 7, []string{"portMappings"}},
		{"", config(version, share("web"), `"runtimeConfig": {"ips": ["10.88.0.9"], "mac": "02:00:00:00:00:01"}`), "", 7, []string{"runtimeConfig.ips", "runtimeConfig.mac"}},
		{"", config(version, share("web"), `"ipam": {"subnet": "10.1.0.0/24"}`), "", 7, []string{"ipam"}},
		{twin.Netns, config(version, share("web")), "", 7, []string{"eth0", "lost"}},
	} {
		from := *c
		if test.netns != "" {
			from.Netns = test.netns
		}
		b.refused(b.shareCall("ADD", &from, test.conf, test.args), test.code, test.words...)
	}
	b.same(before, "after refusals")

	self := b.container("self")
	b.good(b.shareCall("ADD", self, config(version, share("web")), ""))
	b.refused(b.shareCall("ADD", self, config(version, share("web")), ""), 102)
	b.refused(b.shareCall("ADD", &sandbox.Container{ID: "self", Netns: c.Netns}, strings.Replace(config(version, share("self")), "demo", "other", 1), ""), 7, "itself")
}

// TestKillShare is [TestKillHost] for the other mode that replaces the mount.
func TestKillShare(t *testing.T) {
	t.Parallel()
	b, n, _, owner, addr := shared(t)
	serve(t, owner, ":80")
	b.killRebind(b.snapshot(), "container-share", config(version, share("web")))
	b.answers(b, addr+":80", owner, "")
	must(t, n.Check(owner, tcpPort(8080, 80)))
}

// TestModesMixed has containers of every mode come and go at the same time, 100 of
// each; nothing is left.
func TestModesMixed(t *testing.T) {
	t.Parallel()
	b, n, _, owner, addr := shared(t)
	modes := map[string]*sandbox.Network{
		"none": b.only("none", none), "host": b.only("host", host), "share": b.only("share", share("web")), "lo": b.only("lo", `{"type": "loopback"}`),
	}
	for name, mode := range modes { // once, so that what stays is there
		c := b.container("first" + name)
		_, err := mode.Add(c)
		must(t, err)
		must(t, mode.Del(c))
		must(t, c.Remove())
	}
	before := b.snapshot()
	errs := make(chan error)
	for name, mode := range modes {
		go func() {
			for i := range 100 {
				c, err := b.Container(fmt.Sprintf("%s%d", name, i))
				if err == nil {
					_, err = mode.Add(c)
				}
				if err == nil {
					err = mode.Check(c)
				}
				if err == nil {
					err = mode.Del(c)
				}
				if err == nil {
					err = c.Remove()
				}
				if err != nil {
					errs <- fmt.Errorf("%s, round %d: %w", name, i, err)
					return
				}
			}
			errs <- nil
		}()
	}
	for range modes {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	b.loIsUp("after all")
	b.same(before, "after all")
	serve(t, owner, ":80")
	b.answers(b, addr+":80", owner, "")
	must(t, n.Check(owner, tcpPort(8080, 80)))
}
