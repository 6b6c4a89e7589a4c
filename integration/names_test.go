package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
)

// simon is a network of the textbook, on which containers know each other by name.
const simon = `{"cniVersion": "1.0.0", "cniVersions": ["1.0.0", "1.1.0"], "name": "simon_network", "plugins": [{"type": "bridge",
	"bridge": "br-simon", "isDefaultGateway": true, "ipMasq": true, "names": true,
	"capabilities": {"portMappings": true, "ips": true, "aliases": true},
	"ipam": {"ranges": [[{"subnet": "10.90.0.0/16"}], [{"subnet": "fd00:90::/64"}]]}}]}`

// known is a container with a name, and what it has in its resolv.conf.
type known struct {
	*sandbox.Container
	t    *testing.T
	n    *sandbox.Network
	name string
	addr string // the first IPv4 one
	opts []sandbox.Option
	conf string // a file
}

// named attaches a container of that name. The agent that the first one starts ends
// with the test.
func (b *bed) named(n *sandbox.Network, name string, opts ...sandbox.Option) *known {
	b.t.Helper()
	b.endAgent()
	opts = append(opts, sandbox.Arg("IgnoreUnknown", "1"), sandbox.Arg("K8S_POD_NAME", name))
	c := b.container(name)
	text, err := n.AddJSON(c, opts...)
	must(b.t, err)
	r, addr := parse(b.t, text)
	k := &known{c, b.t, n, name, addr, opts, filepath.Join(b.t.TempDir(), "resolv.conf")}
	var lines []string
	for _, s := range r.DNS.Nameservers {
		lines = append(lines, "nameserver "+s)
	}
	if len(r.DNS.Search) > 0 {
		lines = append(lines, "search "+strings.Join(r.DNS.Search, " "))
	}
	must(b.t, os.WriteFile(k.conf, []byte(strings.Join(lines, "\n")+"\n"), 0o644))
	return k
}

// endAgent has an agent that plugins started on the host ended when the test is.
func (b *bed) endAgent() {
	b.t.Cleanup(func() {
		_ = b.Do(func() error {
			data, _ := os.ReadFile("/run/berth/names.lock")
			if pid, err := strconv.Atoi(strings.TrimSuffix(string(data), " on-demand")); err == nil && pid > 1 {
				if comm, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm"); strings.TrimSpace(string(comm)) == "berth" {
					_ = syscall.Kill(pid, syscall.SIGTERM)
				}
			}
			return nil
		})
	})
}

// sh runs a line with the container's resolv.conf.
func (k *known) sh(line string) (string, error) {
	return k.Output("unshare", "-m", "sh", "-c", "mount --bind "+k.conf+" /etc/resolv.conf && "+line)
}

// finds fails the test unless the name leads to the address.
func (k *known) finds(name, address string) {
	k.t.Helper()
	out, err := k.sh("ping -4 -c1 -W2 " + name)
	if err != nil || !strings.Contains(out, "("+address+")") {
		k.t.Errorf("%s pings %s: %v, want an answer of %s\n%s", k.name, name, err, address, out)
	}
}

// knowsNot fails the test if the name leads anywhere.
func (k *known) knowsNot(name string) {
	k.t.Helper()
	if out, err := k.sh("getent ahosts " + name); err == nil {
		k.t.Errorf("%s finds %s: %s", k.name, name, out)
	}
}

func (k *known) leave() {
	k.t.Helper()
	must(k.t, k.n.Del(k.Container, k.opts...))
	must(k.t, k.Remove())
}

// TestTextbookNames: on a network of one's own `ping tomcat82` works from tomcat81.
func TestTextbookNames(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n, err := b.Network(simon, b.bin)
	must(t, err)
	one := b.named(n, "tomcat81")
	two := b.named(n, "tomcat82", sandbox.Cap("aliases", []string{"shop", "Front"}))
	one.finds("tomcat82", two.addr)
	two.finds("tomcat81", one.addr)
	for _, name := range []string{"tomcat82.simon_network", "TOMCAT82", "shop", "front", two.ID[:min(12, len(two.ID))]} {
		one.finds(name, two.addr)
	}
	if out, err := one.sh("ping -6 -c1 -W2 tomcat82"); err != nil {
		t.Errorf("IPv6: %v\n%s", err, out)
	}
	if out, err := one.sh("getent hosts " + two.addr); err != nil || !strings.Contains(out, "tomcat82.simon_network") {
		t.Errorf("who has %s: %q, %v", two.addr, out, err)
	}
	one.knowsNot("nobody")
	must(t, n.Check(two.Container, two.opts...))

	// Somebody flushes the firewall: the agent puts it back.
	must(t, b.Script("nft flush ruleset"))
	b.eventually("("+two.addr+")", func() (string, error) { return one.sh("ping -4 -c1 -W1 tomcat82") })
	must(t, n.Check(two.Container, two.opts...))

	// The name goes with its container, and comes with the next one, whatever address
	// that gets; the address leads to who has it now.
	old := two.addr
	two.leave()
	one.knowsNot("tomcat82")
	three := b.named(n, "tomcat83", sandbox.Cap("ips", []string{old}))
	one.finds("tomcat83", old)
	again := b.named(n, "tomcat82")
	if again.addr == old {
		t.Fatalf("two containers have %s", old)
	}
	one.finds("tomcat82", again.addr)
	if out, err := one.sh("getent hosts " + old); err != nil || !strings.Contains(out, "tomcat83") {
		t.Errorf("who has %s: %q, %v", old, out, err)
	}
	for _, k := range []*known{one, three, again} {
		k.leave()
	}
}

// TestTextbookDefaultBridge: on the default bridge there are no names, but for who
// links, one way.
func TestTextbookDefaultBridge(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n := b.network(bridge)
	one, two := b.named(n, "test1"), b.named(n, "test2")
	for _, k := range []*known{one, two} {
		if data, err := os.ReadFile(k.conf); err != nil || strings.TrimSpace(string(data)) != "" {
			t.Errorf("%s has a resolv.conf: %s %v", k.name, data, err)
		}
	}
	one.knowsNot("test2")
	linked := b.named(b.network(with(bridge, `"args": {"cni": {"links": ["test1:database"]}}`)), "test3")
	linked.finds("database", one.addr)
	linked.finds("test1", one.addr)
	linked.knowsNot("test2")
	one.knowsNot("test3")
	must(t, linked.n.Del(linked.Container, linked.opts...))
	one.leave()
	two.leave()
}

// TestNameless: a container that comes by a configuration without names takes them from
// none of the others on the bridge.
func TestNameless(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n, err := b.Network(simon, b.bin)
	must(t, err)
	without, err := b.Network(strings.Replace(simon, `"names": true,`, "", 1), b.bin)
	must(t, err)
	one, two := b.named(n, "test1"), b.named(n, "test2")
	one.finds("test2", two.addr)
	mute := b.named(without, "test3")
	if data, err := os.ReadFile(mute.conf); err != nil || strings.TrimSpace(string(data)) != "" {
		t.Errorf("test3 has a resolv.conf: %s %v", data, err)
	}
	one.finds("test2", two.addr)
	one.knowsNot("test3")
	mute.leave()
	one.finds("test2", two.addr)
	two.leave()
	one.leave()
}

// TestTwoNetworks: a client sees the names of the networks that it is on, and no
// others.
func TestTwoNetworks(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n, err := b.Network(simon, b.bin)
	must(t, err)
	other, err := b.Network(strings.NewReplacer("simon_network", "my-bridge", "br-simon", "br-my", "10.90.", "10.91.", "fd00:90", "fd00:91").Replace(simon), b.bin)
	must(t, err)
	one, far := b.named(n, "test1"), b.named(other, "test3")
	one.knowsNot("test3")
	far.knowsNot("test1")
	second := append(one.opts, sandbox.IfName("eth1"))
	_, err = other.Add(one.Container, second...)
	must(t, err)
	one.finds("test3", far.addr)
	if out, err := far.sh("ping -4 -c1 -W2 test1"); err != nil || !strings.Contains(out, "(10.91.") {
		t.Errorf("test3 pings test1 on my-bridge: %v\n%s", err, out)
	}
	must(t, other.Del(one.Container, second...))
	far.knowsNot("test1")
	one.leave()
	far.leave()
}

// TestTextbookCounter: a page behind a published port 5000 counts in a redis that it
// finds by name. The redis is Debian's.
func TestTextbookCounter(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n, err := b.Network(simon, b.bin)
	must(t, err)
	program := filepath.Join(t.TempDir(), "counter")
	if out, err := exec.Command("go", "build", "-o", program, "./counter").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	store := b.named(n, "redis")
	page := b.named(n, "flask", tcpPort(5000, 5000))
	b.runs(store, "exec redis-server --bind 0.0.0.0 --protected-mode no --save '' --dir "+t.TempDir())
	b.runs(page, "exec "+program+" :5000 redis:6379")
	for i := 1; i <= 3; i++ {
		want := "I have been seen " + strconv.Itoa(i) + " times."
		b.eventually(want, func() (string, error) {
			return b.outside.Output("curl", "-sS", "-m", "5", "http://"+sandbox.HostAddr4+":5000/")
		})
	}
	page.leave()
	store.leave()
}

// runs starts a line in the container, until the test ends.
func (b *bed) runs(k *known, line string) {
	b.t.Helper()
	cmd := exec.Command("unshare", "-m", "sh", "-c", "mount --bind "+k.conf+" /etc/resolv.conf && "+line)
	log, err := os.Create(filepath.Join(b.t.TempDir(), "log"))
	must(b.t, err)
	cmd.Stdout, cmd.Stderr = log, log
	must(b.t, k.Do(cmd.Start))
	b.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if data, _ := os.ReadFile(log.Name()); b.t.Failed() {
			b.t.Logf("%s: %s", k.name, data)
		}
	})
}

// eventually waits for a program that has just been started.
func (b *bed) eventually(want string, ask func() (string, error)) {
	b.t.Helper()
	var got string
	var err error
	for range 50 {
		if got, err = ask(); err == nil && strings.Contains(got, want) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	b.t.Fatalf("not after 5 s: %q; got %q, %v", want, got, err)
}

// ownDNS has DNS servers of the host's own at the host's other addresses, which containers
// reach there.
func (b *bed) ownDNS(k *known) {
	b.t.Helper()
	for _, addr := range []string{sandbox.HostAddr4, "[" + sandbox.HostAddr6 + "]"} {
		stop, err := b.Serve(addr + ":53")
		must(b.t, err)
		if got, err := k.Ask(addr + ":53"); err != nil || !strings.HasPrefix(got, "host ") {
			b.t.Errorf("%s asks the host's own DNS server at %s: %q, %v", k.name, addr, got, err)
		}
		stop()
	}
}

// TestNamesBesideOthers: with either backend the host's own DNS servers are reached, and
// names resolve where another program has the agent's port.
func TestNamesBesideOthers(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"nftables", "iptables"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			stop, err := b.Serve(":10053")
			must(t, err)
			n, err := b.Network(strings.Replace(simon, `"names": true,`, `"names": true, "firewallBackend": "`+backend+`",`, 1), b.bin)
			must(t, err)
			one, two := b.named(n, "one"), b.named(n, "two")
			one.finds("two", two.addr)
			b.ownDNS(one)
			if out, err := one.sh("getent ahostsv6 two"); err != nil || !strings.Contains(out, "fd00:90::") {
				t.Errorf("by IPv6: %q, %v", out, err)
			}
			for _, k := range []*known{one, two} {
				must(t, n.Check(k.Container, k.opts...))
			}
			stop()
			if backend == "iptables" { // somebody flushes the firewall: the agent puts it back, to its port
				must(t, b.Script("iptables -t nat -F\nip6tables -t nat -F"))
				b.eventually("("+two.addr+")", func() (string, error) { return one.sh("ping -4 -c1 -W1 two") })
			}
			one.leave()
			two.leave()
		})
	}
}

// TestNamesOnLAN: the host's LAN is behind the network's bridge, which has the host's address
// there. Its machines ask the host's own DNS server, and are told nothing of the containers.
func TestNamesOnLAN(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"nftables", "iptables"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			printer := b.container("printer")
			must(t, b.Script(`ip link add br-simon type bridge
ip link add nic0 type veth peer name eth0 netns `+filepath.Base(printer.Netns)+`
ip link set nic0 master br-simon up
ip link set br-simon up
ip addr add 10.90.0.1/16 dev br-simon
ip addr add fd00:90::1/64 dev br-simon nodad
ip -n `+filepath.Base(printer.Netns)+` link set eth0 up
ip -n `+filepath.Base(printer.Netns)+` addr add 10.90.200.1/16 dev eth0`))
			n, err := b.Network(strings.Replace(simon, `"names": true,`, `"names": true, "firewallBackend": "`+backend+`",`, 1), b.bin)
			must(t, err)
			one, two := b.named(n, "one"), b.named(n, "two")
			one.finds("two", two.addr)
			two.finds("one", one.addr)
			stop, err := b.Serve("10.90.0.1:53")
			must(t, err)
			defer stop()
			if got, err := printer.Ask("10.90.0.1:53"); err != nil || !strings.HasPrefix(got, "host ") {
				t.Errorf("the LAN asks the host's DNS server: %q, %v", got, err)
			}
			for _, tcp := range []string{"+notcp", "+tcp"} {
				out, err := printer.Output("dig", tcp, "+time=2", "+tries=1", "-p", "10053", "@10.90.0.1", "two")
				if err != nil || !strings.Contains(out, "status: REFUSED") || strings.Contains(out, two.addr) {
					t.Errorf("the LAN asks the agent: %q, %v", out, err)
				}
			}
			for _, k := range []*known{one, two} {
				must(t, n.Check(k.Container, k.opts...))
				k.leave()
			}
		})
	}
}

// TestHostNames: the host's programs reach containers by name, as long as that is wanted.
func TestHostNames(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.agent("--host-names", "127.0.0.55")
	n, err := b.Network(simon, b.bin)
	must(t, err)
	one := b.named(n, "web")
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	const before = "# by hand\nnameserver 192.0.2.254\n"
	must(t, os.WriteFile(conf, []byte(before), 0o644))
	host := func(line string) (string, error) {
		return b.Output("unshare", "-m", "sh", "-c", "mount --bind "+conf+" /etc/resolv.conf && "+line)
	}
	program := filepath.Join(b.bin, "berth")
	if out, err := host(program + " host-names on"); err != nil || !strings.Contains(out, "made 127.0.0.55 the first nameserver") {
		t.Fatalf("%q, %v", out, err)
	}
	for line, want := range map[string]string{
		"getent ahostsv4 web.simon_network.berth": one.addr, "getent ahostsv6 web.simon_network.berth": "fd00:90::",
		"getent hosts " + one.addr: "web.simon_network.berth", "ping -4 -c1 -W2 web.simon_network.berth": "1 received",
	} {
		if out, err := host(line); err != nil || !strings.Contains(out, want) {
			t.Errorf("%s: %q, %v", line, out, err)
		}
	}
	if out, err := host("getent hosts nobody.simon_network.berth"); err == nil {
		t.Errorf("nobody: %q", out)
	}
	if out, err := host(program + " host-names off"); err != nil || !strings.Contains(out, `took "nameserver 127.0.0.55" out`) {
		t.Errorf("%q, %v", out, err)
	}
	if data, err := os.ReadFile(conf); err != nil || string(data) != before {
		t.Errorf("left: %q, %v", data, err)
	}
	one.leave()
}
