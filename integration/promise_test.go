package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
)

// What the files of conf-examples promise, and what the host needs for it.

// The addresses of the LAN that the macvlan examples are on.
const (
	lanHost    = "192.168.1.10"
	lanOutside = "192.168.1.1"
)

// lan gives the cable to the outside the addresses of a home's LAN.
func (b *bed) lan() {
	b.t.Helper()
	must(b.t, b.Script("ip addr add "+lanHost+"/24 dev "+sandbox.Uplink+"\nip -n outside addr add "+lanOutside+"/24 dev eth0"))
	serve(b.t, b.outside, ":7001")
}

// comesAndGoes has the network used by somebody, so that what stays is there.
func (b *bed) comesAndGoes(n *sandbox.Network) {
	b.t.Helper()
	c := b.container("somebody")
	b.add(n, c, tcpPort(8080, 80))
	must(b.t, n.Del(c, tcpPort(8080, 80)))
	must(b.t, c.Remove())
}

// web starts the container that others share the network of.
func (b *bed) web() {
	b.t.Helper()
	b.add(b.example("10-bridge"), b.container("0123456789ab"), sandbox.Arg("IgnoreUnknown", "1"), sandbox.Arg("K8S_POD_NAME", "web"))
}

// overlay runs an agent whose peers are in a file.
func (b *bed) overlay() {
	b.t.Helper()
	dir := b.t.TempDir()
	peers := filepath.Join(dir, "peers.yaml")
	must(b.t, os.WriteFile(peers, []byte(`
networks:
  berth-overlay: {vni: 4097, subnets: [10.42.0.0/16]}
nodes:
  a: {address: `+sandbox.HostAddr4+`, blocks: {berth-overlay: [10.42.1.0/24]}}
  b: {address: `+sandbox.OutsideAddr4+`, blocks: {berth-overlay: [10.42.2.0/24]}}
`), 0o600))
	log := b.agent("--store", "static", "--peers-file", peers, "--node-name", "a")
	var err error
	for range 100 {
		if _, err = b.Output("ip", "-br", "link", "show", "vxlan4097", "up"); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	text, _ := os.ReadFile(log)
	b.t.Fatalf("no VXLAN device after 5 s: %v\n%s", err, text)
}

// agent runs one as a service until the test ends. It returns the name of its log.
func (b *bed) agent(flags ...string) string {
	b.t.Helper()
	log, err := os.Create(filepath.Join(b.t.TempDir(), "log"))
	must(b.t, err)
	agent := exec.Command(filepath.Join(b.bin, "berth"), append([]string{"agent"}, flags...)...)
	agent.Stdout, agent.Stderr = log, log
	must(b.t, b.Do(agent.Start))
	b.t.Cleanup(func() {
		_ = agent.Process.Signal(syscall.SIGTERM)
		_ = agent.Wait()
		log.Close()
	})
	for range 100 {
		if b.Do(func() error { _, err := os.Stat("/run/berth/agent.sock"); return err }) == nil {
			return log.Name()
		}
		time.Sleep(50 * time.Millisecond)
	}
	text, _ := os.ReadFile(log.Name())
	b.t.Fatalf("the agent has no socket after 5 s:\n%s", text)
	return ""
}

// named: a second container finds the first by its short ID.
func (g *guest) named() {
	g.t.Helper()
	k := g.bed.named(g.n, "neighbour")
	k.finds(g.c.ID, g.addr)
	k.leave()
}

// ifb skips the test where the reference's bandwidth cannot shape what containers
// send.
func (b *bed) ifb() {
	b.t.Helper()
	if err := b.Script("ip link add try0 type ifb\nip link del try0"); err != nil {
		b.t.Skipf("the kernel has no ifb: %v", err)
	}
}

// reachesOut: masqueraded, by IPv4.
func (g *guest) reachesOut() {
	g.t.Helper()
	serve(g.t, g.outside, ":7000")
	ping(g.t, g.c, sandbox.OutsideAddr4)
	g.answers(g.c, sandbox.OutsideAddr4+":7000", g.outside, sandbox.HostAddr4)
}

// reachesOut6 comes after [guest.reachesOut].
func (g *guest) reachesOut6() {
	g.t.Helper()
	ping(g.t, g.c, sandbox.OutsideAddr6)
	g.answers(g.c, "["+sandbox.OutsideAddr6+"]:7000", g.outside, sandbox.HostAddr6)
}

// publishes: for the outside, the host and a neighbour, who reaches it directly, too.
func (g *guest) publishes() {
	g.t.Helper()
	other := g.container("other")
	_, otherAddr := g.add(g.n, other)
	g.answers(g.outside, sandbox.HostAddr4+":8080", g.c, sandbox.OutsideAddr4)
	g.answers(g, "127.0.0.1:8080", g.c, "")
	g.answers(other, sandbox.HostAddr4+":8080", g.c, "")
	g.answers(other, g.addr+":80", g.c, otherAddr)
	if addr6 := first6(g.r); addr6 != "" {
		g.answers(g.outside, "["+sandbox.HostAddr6+"]:8080", g.c, sandbox.OutsideAddr6)
		g.answers(other, addr6+":80", g.c, "")
	}
	g.leave(g.n, other)
}

func (g *guest) internal() {
	other := g.container("other")
	_, otherAddr := g.add(g.n, other)
	serve(g.t, g.outside, ":7000")
	g.answers(other, g.addr+":80", g.c, otherAddr)
	g.answers(g, g.addr+":80", g.c, "")
	g.unreachable(g.outside, sandbox.HostAddr4+":8080", "internal")
	if got := inside(g.t, g.c, "ip", "route", "show", "default"); got != "" {
		g.t.Errorf("there is a default route: %s", got)
	}
	// Not even with routes that somebody adds by hand.
	must(g.t, g.Script("ip -n c1 route add default dev eth0 via "+g.r.IPs[0].Gateway+
		"\nip -n outside route add "+g.addr+" via "+sandbox.HostAddr4))
	g.unreachable(g.c, sandbox.OutsideAddr4+":7000", "internal")
	g.unreachable(g.outside, g.addr+":80", "internal")
	must(g.t, g.Script("ip -n c1 route del default\nip -n outside route del "+g.addr))
	g.leave(g.n, other)
}

// second is a network like the isolated one.
func (b *bed) second() *sandbox.Network {
	b.t.Helper()
	r := strings.NewReplacer("berth-isolated", "second", "berth13", "second0", "10.90.13.", "10.91.13.")
	n, err := b.Network(r.Replace(string(b.example("13-isolated").List.Bytes)), b.bin)
	must(b.t, err)
	return n
}

// isolated from a second network of its kind, but for what is published.
func (g *guest) isolated() {
	g.reachesOut()
	g.publishes()
	n, other := g.second(), g.container("other")
	_, otherAddr := g.add(n, other)
	serve(g.t, other, ":80")
	g.unreachable(other, g.addr+":80", "isolated")
	g.unreachable(g.c, otherAddr+":80", "isolated")
	g.answers(other, sandbox.HostAddr4+":8080", g.c, "")
	g.leave(n, other)
}

func (g *guest) noICC() {
	g.reachesOut()
	other := g.container("other")
	g.add(g.n, other)
	g.unreachable(other, g.addr+":80", "icc false")
	g.answers(other, sandbox.HostAddr4+":8080", g.c, "")
	g.answers(g.outside, sandbox.HostAddr4+":8080", g.c, sandbox.OutsideAddr4)
	g.leave(g.n, other)
}

// layer2 has no addresses; with those that a person gives, two reach each other.
func (g *guest) layer2() {
	other := g.container("other")
	g.add(g.n, other)
	if len(g.r.IPs) != 0 || len(g.r.Routes) != 0 {
		g.t.Errorf("the result has addresses or routes: %+v", g.r)
	}
	must(g.t, g.Script("ip -n c1 addr add 10.0.0.1/24 dev eth0\nip -n other addr add 10.0.0.2/24 dev eth0"))
	ping(g.t, g.c, "10.0.0.2")
	g.answers(other, "10.0.0.1:80", g.c, "10.0.0.2")
	g.leave(g.n, other)
}

// twoNetworks has the container on the front and the back, and another on the back
// only.
func (g *guest) twoNetworks() {
	g.reachesOut()
	g.publishes()
	back := g.example("17-back")
	eth1 := sandbox.IfName("eth1")
	_, addr := g.add(back, g.c, eth1)
	store := g.container("store")
	_, storeAddr := g.add(back, store)
	serve(g.t, store, ":80")
	g.answers(g.c, storeAddr+":80", store, addr)
	g.unreachable(g.outside, storeAddr+":80", "on the back only")
	g.reachesOutBy("eth0")
	g.answers(g.outside, sandbox.HostAddr4+":8080", g.c, sandbox.OutsideAddr4)
	must(g.t, back.Check(g.c, eth1))
	must(g.t, back.Del(g.c, eth1))
	g.leave(back, store)
}

func (g *guest) reachesOutBy(ifName string) {
	g.t.Helper()
	got := strings.Fields(inside(g.t, g.c, "ip", "route", "show", "default"))
	if i := slices.Index(got, "dev"); i < 0 || got[i+1] != ifName || slices.Contains(got[i+1:], "default") {
		g.t.Errorf("default route %s, want one by %s", got, ifName)
	}
	ping(g.t, g.c, sandbox.OutsideAddr4)
}

// onLAN: with its own address, neither translated nor published.
func (g *guest) onLAN() {
	g.t.Helper()
	ping(g.t, g.c, lanOutside)
	g.answers(g.c, lanOutside+":7001", g.outside, g.addr)
	g.answers(g.outside, g.addr+":80", g.c, lanOutside)
	g.unreachable(g.outside, lanHost+":8080", "macvlan")
	other := g.container("other")
	_, otherAddr := g.add(g.n, other)
	g.answers(other, g.addr+":80", g.c, otherAddr)
	g.leave(g.n, other)
}

func (g *guest) loOnly() {
	if got := inside(g.t, g.c, "ip", "-br", "address"); got != "lo UNKNOWN 127.0.0.1/8 ::1/128" {
		g.t.Errorf("the container has %s", got)
	}
	ping(g.t, g.c, "127.0.0.1")
}

func (g *guest) onHost() {
	want, err := g.Output("ip", "address")
	must(g.t, err)
	if got, err := g.c.Output("ip", "address"); err != nil || got != want {
		g.t.Errorf("the container sees\n%s, the host\n%s", got, want)
	}
	g.answers(g.outside, sandbox.HostAddr4+":80", g.c, sandbox.OutsideAddr4)
	g.unreachable(g.outside, sandbox.HostAddr4+":8080", "host ignores published ports")
}

func (g *guest) besideWeb() {
	g.answers(g, g.addr+":80", g.c, "") // the address of web
	want, err := g.Output("ip", "-n", "0123456789ab", "address")
	must(g.t, err)
	if got, err := g.c.Output("ip", "address"); err != nil || got != want {
		g.t.Errorf("the container sees\n%s, web\n%s", got, want)
	}
}

// tuned has what the plugins behind the bridge have done.
func (g *guest) tuned() {
	g.reachesOut()
	g.publishes()
	if got := inside(g.t, g.c, "cat", "/proc/sys/net/core/somaxconn"); got != "512" {
		g.t.Errorf("somaxconn is %s", got)
	}
	if got := inside(g.t, g.c, "ip", "link", "show", "eth0"); !strings.Contains(got, "mtu 1400 ") {
		g.t.Errorf("the MTU is not 1400: %s", got)
	}
	out, err := g.Output("tc", "qdisc")
	must(g.t, err)
	if got := strings.Count(out, "rate 100Mbit"); got != 2 {
		g.t.Errorf("%d directions are shaped, want 2: %s", got, out)
	}
}

// pods are attached as containerd does: with loopback beside, its arguments, and host
// ports by Go's names of the fields.
func (g *guest) pods() {
	g.reachesOut()
	g.reachesOut6()
	g.publishes()
	lo := g.only("cni-loopback", `{"type": "loopback"}`)
	opts := []sandbox.Option{sandbox.Cap("portMappings", []map[string]any{{"HostPort": 8081, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}}),
		sandbox.Cap("dns", map[string]any{"Servers": []string{"192.0.2.53"}, "Searches": nil, "Options": nil}),
		sandbox.Arg("IgnoreUnknown", "1"), sandbox.Arg("K8S_POD_NAMESPACE", "default"), sandbox.Arg("K8S_POD_NAME", "pod"),
		sandbox.Arg("K8S_POD_INFRA_CONTAINER_ID", "pod"), sandbox.Arg("K8S_POD_UID", "1")}
	pod := g.empty("pod")
	_, err := lo.Add(pod, sandbox.IfName("lo"))
	must(g.t, err)
	r, addr := g.add(g.n, pod, opts...)
	serve(g.t, pod, ":80")
	g.answers(g.c, addr+":80", pod, g.addr)
	g.answers(g.c, first6(r)+":80", pod, "")
	g.answers(g.outside, sandbox.HostAddr4+":8081", pod, sandbox.OutsideAddr4)
	must(g.t, lo.Del(pod, sandbox.IfName("lo")))
	g.leave(g.n, pod, opts...)
}
