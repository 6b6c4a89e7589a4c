package server

import (
	"context"
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/miekg/dns"
)

// records is a store, whose records have steps of one kind.
func records(dir string) *attach.Store {
	return attach.New(dir, func(kind string) attach.Step {
		if kind == "names" {
			return &names.Register{}
		}
		return nil
	})
}

// attached writes a record, with its step if there is one, and does not add the step.
func attached(t testing.TB, s *attach.Store, e names.Entry, called string, step bool) {
	t.Helper()
	a := &attach.Attachment{Key: e.Key, Args: map[string]string{"K8S_POD_NAME": called}}
	for i, addr := range e.Addresses {
		a.Addresses = append(a.Addresses, attach.Address{Prefix: mustPrefix(addr, e.Subnets[i])})
	}
	if step {
		a.Steps = []attach.Step{&names.Register{Bridge: e.Bridge, Names: e.Names, Links: e.Links}}
	}
	if err := s.Update(t.Context(), func(*attach.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
}

// TestRestart: an agent that starts knows from the records what one before it was told.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(attach.DirEnv, dir)
	br := bridge(t, "10.8.0.1/24")
	c := container(t, br, "10.8.0.2/24")
	ctx, stop := context.WithCancel(t.Context())
	first := New(Config{StateDir: dir, ResolvConf: resolvConfWith(t)})
	ended := make(chan error, 1)
	go func() { ended <- first.Run(ctx) }()
	<-first.Ready()
	s := records(dir)
	attached(t, s, entry("net", "me", "eth0", br, "me", "10.8.0.2/24"), "me", true)
	attached(t, s, entry("net", "you", "eth0", br, "you", "10.8.0.3/24"), "you", true)
	if got := c.ask(t, "10.8.0.1", "you", dns.TypeA); got != "NOERROR 10.8.0.3" {
		t.Errorf("before: %q", got)
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := s.Del(t.Context(), attach.Key{Network: "net", Container: "you", IfName: "eth0"}); err != nil {
		t.Errorf("DEL without an agent: %v", err)
	}
	start(t, Config{StateDir: dir, Records: s})
	if got := c.ask(t, "10.8.0.1", "me", dns.TypeA); got != "NOERROR 10.8.0.2" {
		t.Errorf("afterwards: %q", got)
	}
	if got := c.ask(t, "10.8.0.1", "you", dns.TypeA); got != "NXDOMAIN" {
		t.Errorf("of one that is gone: %q", got)
	}
}

// TestLinks: names for one container alone, also on a network where nobody has names.
func TestLinks(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(attach.DirEnv, dir)
	br := bridge(t, "10.8.0.1/24")
	me, you := container(t, br, "10.8.0.2/24"), container(t, br, "10.8.0.3/24")
	s := records(dir)
	server := start(t, Config{StateDir: dir, Records: s})
	attached(t, s, entry("bridge", strings.Repeat("0123456789abcdef", 4), "eth0", br, "", "10.8.0.9/24"), "db", false)
	mine := entry("bridge", "me", "eth0", br, "", "10.8.0.2/24")
	mine.Links = map[string]string{"database": "db", "db": "db", "byid": "0123456789ab", "gone": "nobody", "friend": "named"}
	yours := entry("bridge", "you", "eth0", br, "named", "10.8.0.3/24", "fd08::3/64")
	put(t, server, mine, yours)
	for name, want := range map[string]string{
		"database": "NOERROR 10.8.0.9", "DB": "NOERROR 10.8.0.9", "byid": "NOERROR 10.8.0.9", "gone": "NXDOMAIN", "friend": "NOERROR 10.8.0.3",
	} {
		if got := me.ask(t, "10.8.0.1", name, dns.TypeA); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
		if got := you.ask(t, "10.8.0.1", name, dns.TypeA); got != "NXDOMAIN" {
			t.Errorf("%s of who has no link: %q", name, got)
		}
	}
	if got := me.ask(t, "10.8.0.1", "database", dns.TypeAAAA); got != "NOERROR" {
		t.Errorf("of another family: %q", got)
	}
	if got := me.exchange(t, "tcp", gateway("10.8.0.1"), question("database", dns.TypeA)); text(got) != "NOERROR 10.8.0.9" {
		t.Errorf("by TCP: %q", text(got))
	}
	// The target is another container now.
	if err := s.Del(t.Context(), attach.Key{Network: "bridge", Container: strings.Repeat("0123456789abcdef", 4), IfName: "eth0"}); err != nil {
		t.Fatal(err)
	}
	attached(t, s, entry("bridge", "other", "eth0", br, "", "10.8.0.10/24"), "db", false)
	time.Sleep(linkAge)
	if got := me.ask(t, "10.8.0.1", "database", dns.TypeA); got != "NOERROR 10.8.0.10" {
		t.Errorf("after another start of the target: %q", got)
	}
}

// TestLinkBeside: a container has the names of its links on each of its networks, whichever
// it asks by; a name of the network that it asks by comes first.
func TestLinkBeside(t *testing.T) {
	server := start(t, Config{})
	front, back := bridge(t, "10.8.0.1/24"), bridge(t, "10.9.0.1/24")
	me, you := container(t, front, "10.8.0.2/24"), container(t, front, "10.8.0.3/24")
	second := entry("back", "me", "eth1", back, "me", "10.9.0.2/24")
	second.Links = map[string]string{"db": "two", "byid": "0123456789abcdef", "you": "two", "gone": "nobody"}
	put(t, server, entry("front", "me", "eth0", front, "me", "10.8.0.2/24"), entry("front", "you", "eth0", front, "you", "10.8.0.3/24"), second,
		entry("back", "0123456789abcdef", "eth0", back, "two", "10.9.0.3/24"))
	for name, want := range map[string]string{"db": "NOERROR 10.9.0.3", "byid": "NOERROR 10.9.0.3", "you": "NOERROR 10.8.0.3", "two": "NOERROR 10.9.0.3"} {
		if got := me.ask(t, "10.8.0.1", name, dns.TypeA); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if got := you.ask(t, "10.8.0.1", "db", dns.TypeA); got != "NXDOMAIN" {
		t.Errorf("of who has no link: %q", got)
	}
}

// TestBridgeMadeAgain: another bridge of the same name is listened on, by the next ADD
// or in a second.
func TestBridgeMadeAgain(t *testing.T) {
	s := start(t, Config{})
	name := bridge(t, "10.8.0.1/24")
	e := entry("net", "me", "eth0", name, "me", "10.8.0.2/24")
	put(t, s, e)
	for _, how := range []string{"ADD", "CHECK", "time"} {
		run(t, "ip", "link", "del", name)
		makeBridge(t, name, "10.8.0.1/24")
		c := container(t, name, "10.8.0.2/24")
		var err error
		switch how {
		case "ADD":
			err = s.add(e)
		case "CHECK":
			err = s.check(e)
		case "time":
			time.Sleep(sweepEvery + 200*time.Millisecond)
		}
		if err != nil {
			t.Error(err)
		}
		if got := c.ask(t, "10.8.0.1", "me", dns.TypeA); got != "NOERROR 10.8.0.2" {
			t.Errorf("after %s: %q", how, got)
		}
	}
	run(t, "ip", "link", "del", name)
	if err := s.add(entry("net", "you", "eth0", name, "you", "10.8.0.3/24")); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("ADD without the bridge: %v", err)
	}
	if err := s.check(e); err == nil {
		t.Error("CHECK passes without the bridge")
	}
	if st := s.Status(); st.Deaf[name] == "" || st.Containers != 1 {
		t.Errorf("status: %+v", st)
	}
	makeBridge(t, name, "10.8.0.1/24")
}

// TestPort53: the way of a container's query. The host's port 53 and the published one
// are other people's, and the answer comes from where the query went.
func TestPort53(t *testing.T) {
	a := newAsking(t)
	run(t, "ip", "addr", "add", "fd06::1/64", "dev", a.br, "nodad")
	run(t, "ip", "-n", filepath.Base(a.path), "addr", "add", "fd06::2/64", "dev", "eth0", "nodad")
	put(t, a.Server, entry("net", "me", "eth0", a.br, "me", "10.6.0.2/24", "fd06::2/64"))
	other := newResolver(t, honest) // somebody on port 53 of the host
	rules := `table inet test {
		chain pre {
			type nat hook prerouting priority -110;
			iifname "` + a.br + `" fib daddr type local meta l4proto { tcp, udp } th dport 53 redirect to :10053
		}
	}`
	run(t, "nft", rules)
	t.Cleanup(func() { _ = nstest.Run("nft", "delete table inet test") })
	for _, network := range []string{"udp", "tcp"} {
		for _, server := range []string{"10.6.0.1:53", "[fd06::1]:53"} {
			if got := text(a.exchange(t, network, server, question("me", dns.TypeA))); got != "NOERROR 10.6.0.2" {
				t.Errorf("%s %s: %q", network, server, got)
			}
		}
	}
	conn, err := dns.Dial("udp", other.addr+":53")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if r, err := exchange(conn.Conn, question("x.test", dns.TypeA)); err != nil || text(r) != outside {
		t.Errorf("the host's own server: %v, %v", r, err)
	}
}

// TestOnDemand: a server that nobody needs ends, and takes its socket with it.
func TestOnDemand(t *testing.T) {
	dir := t.TempDir()
	br := bridge(t, "10.8.0.1/24")
	s := New(Config{StateDir: dir, ResolvConf: resolvConfWith(t), OnDemand: true, Linger: 100 * time.Millisecond})
	ended := make(chan error, 1)
	go func() { ended <- s.Run(t.Context()) }()
	<-s.Ready()
	e := entry("net", "me", "eth0", br, "me", "10.8.0.2/24")
	ask := func(do string) error {
		_, err := names.Call(t.Context(), dir, names.Request{Do: do, Entry: e})
		return err
	}
	if err := ask(names.DoAdd); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * sweepEvery)
	if err := ask(names.DoCheck); err != nil {
		t.Errorf("it ended with a container: %v", err)
	}
	if err := ask(names.DoDel); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(3 * sweepEvery):
		t.Fatal("it does not end")
	}
	if err := ask(names.DoAdd); err != names.ErrNoAgent {
		t.Errorf("afterwards: %v", err)
	}
}

// TestHungUp: what a plugin asked for that does not wait any more is not added, but is
// removed.
func TestHungUp(t *testing.T) {
	s := New(Config{StateDir: t.TempDir()})
	br := bridge(t, "10.3.0.1/24")
	t.Cleanup(s.closeListeners)
	path := filepath.Join(t.TempDir(), "socket")
	l, err := listenControl(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e := entry("net", "c", "eth0", br, "web", "10.3.0.2/24")
	for _, step := range []struct {
		do    string
		waits bool
		want  int
	}{{names.DoAdd, false, 0}, {names.DoAdd, true, 1}, {names.DoDel, false, 0}} {
		c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(names.Request{Do: step.do, Entry: e})
		if err == nil {
			_, err = c.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !step.waits {
			c.Close()
		}
		conn, err := l.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		s.control(conn)
		c.Close()
		if got := len(s.Directory().Local()); got != step.want {
			t.Errorf("%s, waits %v: %d entries, want %d", step.do, step.waits, got, step.want)
		}
	}
}
