package runtimes

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
)

// beside is a machine with containers of Berth, and others' containers or firewall.
type beside struct {
	*machine
	t       *testing.T
	backend string // of Berth's firewall
	net     *sandbox.Network
	guests  []*guest
	docker  *docker // nil without
}

// guest is a container of Berth that is published on a port of the host.
type guest struct {
	*sandbox.Container
	port  int
	addrs []netip.Addr
}

const besideConf = `{` + everyVersion + `, "name": "beside", "plugins": [{"type": "bridge", "bridge": "berth7", "isDefaultGateway": true,
	"ipMasq": true, "firewallBackend": %q, "capabilities": {"portMappings": true},
	"ipam": {"ranges": [[{"subnet": "10.77.0.0/16"}], [{"subnet": "fd00:77::/64"}]]}}]}`

func newBeside(t *testing.T, backend string) *beside {
	t.Helper()
	files := debian(t, "docker.io", "firewalld", "dbus-daemon")
	b := &beside{machine: newMachine(t), t: t, backend: backend}
	b.install(t, files)
	conf := fmt.Sprintf(besideConf, backend)
	var err error
	b.net, err = b.Network(conf, b.plugins)
	must(t, err)
	must(t, b.onDisk("/etc/cni/net.d/10-beside.conflist", conf))
	return b
}

// onDisk writes a file of the machine.
func (b *beside) onDisk(path, text string) error {
	_, err := b.run("sh", "-c", "mkdir -p $(dirname $1); cat >$1 <<EOF\n"+text+"\nEOF", "-", path)
	return err
}

// add makes a container and attaches it.
func (b *beside) add(name string, port int) {
	b.t.Helper()
	c, err := b.Container(name)
	must(b.t, err)
	text, err := b.net.AddJSON(c, sandbox.Cap("portMappings", []map[string]any{{"hostPort": port, "containerPort": 80, "protocol": "tcp"}}))
	if err != nil {
		b.t.Fatalf("ADD of %s: %v", name, err)
	}
	var result struct {
		IPs []struct{ Address netip.Prefix }
	}
	must(b.t, json.Unmarshal([]byte(text), &result))
	g := &guest{Container: c, port: port}
	for _, ip := range result.IPs {
		g.addrs = append(g.addrs, ip.Address.Addr())
	}
	stop, err := c.Serve(":80")
	must(b.t, err)
	b.t.Cleanup(stop)
	b.guests = append(b.guests, g)
}

// question asks, and is answered.
type question struct {
	what, want string
	ask        func() (string, error)
}

// way are the questions about one side of a published container: how it is seen outside,
// and whether the outside reaches it, by IPv4 and IPv6.
func (b *beside) way(name string, port int, from asker) (all []question) {
	for _, family := range []struct{ host, outside string }{{sandbox.HostAddr4, sandbox.OutsideAddr4}, {sandbox.HostAddr6, sandbox.OutsideAddr6}} {
		all = append(all,
			question{name + " reaches " + family.outside, "outside " + family.host,
				func() (string, error) { return from("tcp", at(family.outside, 80)) }},
			question{fmt.Sprintf("the outside reaches %s by port %d of %s", name, port, family.host), name + " " + family.outside,
				func() (string, error) { return b.outside.Ask(at(family.host, port)) }})
	}
	return all
}

// ours are the questions about Berth's containers.
func (b *beside) ours() (all []question) {
	for _, g := range b.guests {
		all = append(all, b.way(g.ID, g.port, func(_, address string) (string, error) { return g.Ask(address) })...)
	}
	return all
}

// all are the questions about both sides.
func (b *beside) all() []question {
	all := b.ours()
	if b.docker != nil {
		all = append(all, b.way("d1", 8081, b.docker.ask)...)
	}
	return all
}

// wrong are the questions that are not answered as they have to be.
func wrong(questions []question) (all []string) {
	var mu sync.Mutex
	var wait sync.WaitGroup
	for _, q := range questions {
		wait.Go(func() {
			got, err := q.ask()
			mu.Lock()
			defer mu.Unlock()
			if got = strings.TrimSpace(got); got != q.want {
				all = append(all, fmt.Sprintf("%s: answered %q (%v), want %q", q.what, got, err, q.want))
			}
		})
	}
	wait.Wait()
	return all
}

// hold fails the test unless all questions are answered as they have to be.
func (b *beside) hold(when string, questions []question) {
	b.t.Helper()
	if all := wrong(questions); all != nil {
		b.t.Errorf("%s:\n%s\n%s", when, strings.Join(all, "\n"), b.firewall())
	}
}

// settle waits until they are: at most so long.
func (b *beside) settle(when string, within time.Duration, questions []question) {
	b.t.Helper()
	for end := time.Now().Add(within); wrong(questions) != nil && time.Now().Before(end); {
		time.Sleep(200 * time.Millisecond)
	}
	b.hold(when, questions)
}

// firewall is what a failed test shows.
func (b *beside) firewall() string {
	out, _ := b.run("sh", "-c", "for t in iptables ip6tables; do for f in nft legacy; do echo $t-$f; $t-$f -S FORWARD; done; done 2>&1")
	return out
}

// berth runs the program, and returns what it says on both streams.
func (b *beside) berth(args ...string) (string, error) {
	cmd := b.command(append([]string{filepath.Join(b.plugins, "berth")}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// bad is that Berth's containers are cut off, and the doctor says so in words.
func (b *beside) bad(when, words string) {
	b.t.Helper()
	if wrong(b.ours()) == nil {
		b.t.Errorf("%s, and nothing is wrong: the test shows nothing\n%s", when, b.firewall())
	}
	if out, err := b.berth("doctor"); err == nil || !strings.Contains(out, words) {
		b.t.Errorf("%s: the doctor says (%v), without %q:\n%s", when, err, words, out)
	}
}

// agentTime is how long an agent may take, on a busy machine. It is told of what nftables
// changes, looks after the old iptables every few seconds, and asks firewalld, which may be
// at work itself.
const agentTime = time.Minute

// repaired does damage to the way of Berth's containers, and has each of those repair it
// that are to.
func (b *beside) repaired(by, words string, damage func()) {
	b.t.Helper()
	for _, args := range [][]string{{"reload"}, {"doctor", "--fix"}} {
		damage()
		b.bad(by+", before "+args[0], words)
		if out, err := b.berth(args...); err != nil {
			b.t.Errorf("%s: berth %s: %v\n%s", by, strings.Join(args, " "), err, out)
		}
		b.hold(by+", after berth "+strings.Join(args, " "), b.ours())
	}
	b.withAgent(func() {
		damage()
		b.settle(by+", with the agent", agentTime, b.ours())
	})
}

// withAgent runs an agent meanwhile.
func (b *beside) withAgent(meanwhile func()) {
	b.t.Helper()
	log := filepath.Join(b.dir, "agent.log")
	agent := b.command("sh", "-c", filepath.Join(b.plugins, "berth")+" agent >>"+log+" 2>&1 & echo $! >/run/agent.pid; wait")
	must(b.t, agent.Start())
	for range 100 {
		if _, err := b.run("test", "-S", "/run/berth/agent.sock"); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	meanwhile()
	if b.t.Failed() {
		out, _ := b.run("tail", "-n", "30", log)
		b.t.Logf("the agent's log:\n%s", out)
	}
	b.mustRun("sh", "-c", "kill $(cat /run/agent.pid)")
	_ = agent.Wait()
}
