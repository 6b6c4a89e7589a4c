package wireguard

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/overlay/vxlan"
	"golang.org/x/sys/unix"
)

// serveWord has the test binary be the process in user space.
const serveWord = "serve-wireguard"

func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[1] == serveWord {
		ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
		defer stop()
		mtu, _ := strconv.Atoi(os.Args[3])
		if Serve(ctx, os.Args[4], mtu, os.Stdout, log.Default()) != nil {
			os.Exit(1)
		}
		return
	}
	nstest.Main(m)
}

// host is one of a test's, in the namespace of its number.
type host struct {
	t      *testing.T
	number int
	path   string
	key    Key
	tunnel *Tunnel
	plane  *vxlan.Plane
	device string
}

// port is that of all hosts.
const port = 51820

// pair makes two hosts on one wire, which know each other.
func pair(t *testing.T, userspace bool) [2]*host {
	nstest.Host(t)
	hosts := [2]*host{}
	for i := range hosts {
		hosts[i] = &host{t: t, number: i + 1, path: nstest.Namespace(t), key: newKey(), device: fmt.Sprintf("wg%d", i+1)}
	}
	name := func(h *host) string { return h.path[strings.LastIndex(h.path, "/")+1:] }
	run(t, fmt.Sprintf("ip link add eth0 netns %s type veth peer name eth0 netns %s", name(hosts[0]), name(hosts[1])))
	for i, h := range hosts {
		h.in(func() {
			run(t, "ip link set lo up")
			run(t, "ip link set eth0 up")
			run(t, fmt.Sprintf("ip addr add 192.0.2.%d/24 dev eth0", h.number))
			net, err := vxlan.Open()
			fatal(t, err)
			t.Cleanup(net.Close)
			h.tunnel = &Tunnel{Command: []string{self(t), serveWord}, UserSpace: userspace}
			h.tunnel.Set(h.key, Key{}, port)
			h.plane, err = net.Plane(h.wanted())
			fatal(t, err)
			fatal(t, h.plane.SetPeers([]vxlan.Peer{hosts[1-i].peer()}))
			t.Cleanup(func() { h.in(func() { _ = h.plane.Delete() }) })
		})
	}
	return hosts
}

func self(t *testing.T) string {
	path, err := os.Executable()
	fatal(t, err)
	return path
}

func (h *host) in(fn func()) { h.t.Helper(); nstest.In(h.t, h.path, fn) }

func (h *host) block(family int) netip.Prefix {
	if family == 4 {
		return netip.MustParsePrefix(fmt.Sprintf("10.42.%d.0/24", h.number))
	}
	return netip.MustParsePrefix(fmt.Sprintf("fd00:42:0:%d::/64", h.number))
}

func (h *host) wanted() vxlan.Device {
	return vxlan.Device{Name: h.device, MTU: 1440, Local: netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", h.number)),
		Addresses: []netip.Addr{h.block(4).Addr(), h.block(6).Addr()}, Tunnel: h.tunnel,
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16"), netip.MustParsePrefix("fd00:42::/48")}}
}

func (h *host) peer() vxlan.Peer {
	return vxlan.Peer{Name: fmt.Sprintf("host-%d", h.number), Underlay: h.wanted().Local, Key: h.key.Public(), Blocks: []netip.Prefix{h.block(4), h.block(6)}}
}

func (h *host) sync() (n vxlan.Changes) {
	h.t.Helper()
	h.in(func() {
		var err error
		n, err = h.plane.Sync()
		fatal(h.t, err)
	})
	return n
}

// reaches fails the test unless the host reaches the other's addresses within some time.
func (h *host) reaches(other *host) {
	h.t.Helper()
	h.in(func() {
		for _, a := range []netip.Addr{other.block(4).Addr(), other.block(6).Addr()} {
			err := errors.New("not tried")
			for range 30 {
				if err = nstest.Run("ping", "-c1", "-W1", "-i0.2", a.String()); err == nil {
					break
				}
			}
			if err != nil {
				h.t.Errorf("%s to %s: %v", h.device, a, err)
			}
		}
	})
}

func (h *host) state() (s *state) {
	h.t.Helper()
	h.in(func() {
		var err error
		s, err = h.tunnel.configurer().get(h.device)
		fatal(h.t, err)
	})
	return s
}

func run(t *testing.T, command string) {
	t.Helper()
	f := strings.Fields(command)
	fatal(t, nstest.Run(f[0], f[1:]...))
}

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestTunnel runs on both implementations, as far as the kernel has its own.
func TestTunnel(t *testing.T) {
	t.Run("user space", func(t *testing.T) {
		if _, err := os.Stat("/dev/net/tun"); err != nil {
			t.Skip("this kernel has no tun: ", err)
		}
		testTunnel(t, true)
	})
	t.Run("kernel", func(t *testing.T) {
		nstest.Host(t)
		c, err := rtnl.Dial()
		fatal(t, err)
		defer c.Close()
		if err := c.Send(rtnl.NewLink("probe", kernelKind, 0, nil)); errors.Is(err, unix.EOPNOTSUPP) {
			t.Skip("this kernel has no WireGuard")
		}
		testTunnel(t, false)
	})
}

func testTunnel(t *testing.T, userspace bool) {
	hosts := pair(t, userspace)
	one, two := hosts[0], hosts[1]
	for _, h := range hosts {
		if n := h.sync(); n.Device == 0 || n.Peers != 2 || n.Routes != 2 || n.Unreachable != 2 {
			t.Errorf("first: %s", n)
		}
	}
	one.reaches(two)
	two.reaches(one)
	time.Sleep(turn)
	for range 2 { // the second has nothing to do
		one.sync()
		if n := two.sync(); n.Total() > 1 {
			t.Errorf("again: %s", n)
		}
	}
	for _, h := range hosts {
		if n := h.sync(); n.Total() != 0 {
			t.Errorf("once more: %s", n)
		}
		if s := h.state(); s.port != port || s.private != h.key || len(s.peers) != 1 || h.tunnel.Waits() != 0 {
			t.Errorf("%s: %+v, wait %v", h.device, s, h.tunnel.Waits())
		}
	}
	heard, err := map[Key]Heard(nil), error(nil)
	one.in(func() { heard, err = one.tunnel.Heard(one.device) })
	if h := heard[two.key.Public()]; err != nil || time.Since(h.Handshake) > time.Minute || h.Bytes < 100 {
		t.Errorf("heard %+v (%v)", heard, err)
	}
	t.Run("checksum", func(t *testing.T) { testChecksum(t, one, two) })
	if userspace {
		t.Run("queue", func(t *testing.T) { testQueue(t, one, two) })
	}
	t.Run("peers", func(t *testing.T) { testPeers(t, one, two) })
	t.Run("damage", func(t *testing.T) { testDamage(t, one, two) })
	one.in(func() {
		fatal(t, one.plane.Delete())
		if out, _ := nstest.Output("ip", "-br", "link"); strings.Contains(out, one.device) {
			t.Errorf("left:\n%s", out)
		}
	})
}

// testPeers has what is known of a peer change.
func testPeers(t *testing.T, one, two *host) {
	block := netip.MustParsePrefix("10.42.77.0/24")
	more := two.peer()
	more.Blocks = append(more.Blocks, block)
	allowed := func(k Key) []netip.Prefix { return one.state().peers[k].allowed }
	one.in(func() { fatal(t, one.plane.SetPeer(more)) })
	if got := allowed(two.key.Public()); len(got) != 3 {
		t.Errorf("a block more: %v", got)
	}
	third := vxlan.Peer{Name: "host-3", Underlay: netip.MustParseAddr("192.0.2.3"), Key: newKey().Public(), Blocks: []netip.Prefix{block}}
	one.in(func() {
		fatal(t, one.plane.SetPeer(two.peer()))
		fatal(t, one.plane.SetPeer(third))
	})
	if got := allowed(third.Key); len(got) != 1 || got[0] != block {
		t.Errorf("a block that moved: %v", got)
	}
	one.reaches(two)
	copied := third
	copied.Name, copied.Key = "host-9", two.key.Public() // which is that of host-2
	one.in(func() {
		fatal(t, one.plane.SetPeers([]vxlan.Peer{copied, two.peer()}))
		if _, err := one.plane.Sync(); err == nil || !strings.Contains(err.Error(), `peer "host-9": its public key is that of "host-2"`) {
			t.Errorf("a copied key: %v", err)
		}
		own := third
		own.Key = one.key.Public()
		fatal(t, one.plane.SetPeers([]vxlan.Peer{own, two.peer()}))
		if _, err := one.plane.Sync(); err == nil || !strings.Contains(err.Error(), "its public key is this host's own") {
			t.Errorf("our own key: %v", err)
		}
		keyless := third
		keyless.Key = Key{}
		if err := one.plane.SetPeers([]vxlan.Peer{keyless, two.peer()}); err == nil || !strings.Contains(err.Error(), "it has no public key") {
			t.Errorf("no key: %v", err)
		}
	})
	one.sync()
	if n := len(one.state().peers); n != 1 {
		t.Errorf("%d peers, want 1", n)
	}
	one.reaches(two)
	psk := newKey()
	for _, h := range []*host{one, two} {
		h.tunnel.Set(h.key, psk, port)
		if n := h.sync(); n.Peers != 1 {
			t.Errorf("pre-shared key: %s", n)
		}
	}
	one.reaches(two)
}

// testDamage has somebody else change what is ours.
func testDamage(t *testing.T, one, two *host) {
	for name, do := range map[string]func(){
		"peer removed":   func() { fatal(t, one.tunnel.Drop(one.device, two.key.Public())) },
		"device deleted": func() { run(t, "ip link del "+one.device) },
		"key changed": func() {
			k := newKey()
			fatal(t, one.tunnel.configurer().set(one.device, &change{private: &k}))
		},
		"port changed": func() { fatal(t, one.tunnel.configurer().set(one.device, &change{port: 7})) },
		"blocks taken": func() {
			fatal(t, one.tunnel.configurer().set(one.device, &change{peers: []peerChange{{key: two.key.Public(), drop: []netip.Prefix{two.block(4)}, allowed: []netip.Prefix{two.block(6)}}}}))
		},
	} {
		one.in(do)
		if n := one.sync(); n.Total() == 0 {
			t.Errorf("%s: nothing was put right", name)
		}
		time.Sleep(turn)
		one.sync()
		one.reaches(two)
	}
	if one.tunnel.kind != tunKind {
		return
	}
	for name, signal := range map[string]unix.Signal{"killed": unix.SIGKILL, "stopped": unix.SIGSTOP} {
		pid := one.pid()
		fatal(t, unix.Kill(pid, signal))
		gone(t, pid)
		if n := one.sync(); n.Device == 0 {
			t.Errorf("process %s: %s", name, n)
		}
		time.Sleep(turn)
		one.sync()
		one.reaches(two)
		if now := one.pid(); now == pid {
			t.Errorf("process %s: is still %d", name, pid)
		}
	}
}

// gone waits until each thread of a process is stopped, or has ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	for range 500 {
		runs := false
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		for _, task := range tasks {
			line, err := os.ReadFile(task)
			_, state, _ := strings.Cut(string(line), ") ")
			runs = runs || err == nil && !strings.HasPrefix(state, "T") && !strings.HasPrefix(state, "Z")
		}
		if !runs {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("process %d runs on", pid)
}

// pid is the process that has the device.
func (h *host) pid() int {
	h.t.Helper()
	pid, err := owner(h.device)
	fatal(h.t, err)
	return pid
}
