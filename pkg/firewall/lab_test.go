package firewall

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
)

// lab is a host with networks, containers that answer, and two hosts outside
// that it routes between. Every container and outside host listens on TCP and
// UDP port 80, and answers with its name and the client's address as it saw it.
type lab struct {
	t           testing.TB
	backend     string
	brNetfilter bool
	ns          map[string]string // namespace of a host or container; "" is the host
	made        []*attach.Attachment
	asked       sync.WaitGroup
}

func newLab(t testing.TB, backend string, brNetfilter bool) *lab {
	t.Helper()
	nstest.Host(t)
	l := &lab{t: t, backend: backend, brNetfilter: brNetfilter, ns: map[string]string{"host": ""}}
	for name, value := range map[string]string{
		"ipv6/conf/all/accept_dad": "0", "ipv6/conf/default/accept_dad": "0", // addresses are ready at once
		"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1",
		"bridge/bridge-nf-call-iptables": bit(brNetfilter), "bridge/bridge-nf-call-ip6tables": bit(brNetfilter),
	} {
		l.sysctl(name, value)
	}
	l.outside("out", "192.0.2", "2001:db8:a")
	l.outside("far", "198.51.100", "2001:db8:b")
	return l
}

func bit(on bool) string {
	if on {
		return "1"
	}
	return "0"
}

func (l *lab) sysctl(name, value string) {
	l.t.Helper()
	err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0)
	if errors.Is(err, os.ErrNotExist) && strings.HasPrefix(name, "bridge/") {
		if l.brNetfilter {
			l.t.Skip("this kernel has no br_netfilter")
		}
		return
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) ip(args string) {
	l.t.Helper()
	if err := nstest.Run("ip", strings.Fields(args)...); err != nil {
		l.t.Fatal(err)
	}
}

// id names the namespace of a node for ip(8).
func (l *lab) id(name string) string { return l.ns[name][strings.LastIndex(l.ns[name], "/")+1:] }

func (l *lab) nft(command string) {
	l.t.Helper()
	if err := nstest.Run("nft", command); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) iptables(args string) {
	l.t.Helper()
	if err := nstest.Run("iptables", strings.Fields(args)...); err != nil {
		l.t.Fatal(err)
	}
}

// node makes a namespace with eth0, whose peer on the host is named after it.
func (l *lab) node(name, v4, v6, gw4, gw6 string) {
	l.t.Helper()
	path := nstest.Namespace(l.t)
	id := path[strings.LastIndex(path, "/")+1:]
	nstest.In(l.t, path, func() { l.sysctl("ipv6/conf/default/accept_dad", "0") })
	l.ip(fmt.Sprintf("link add v-%s type veth peer name eth0 netns %s", name, id))
	l.ip("link set v-" + name + " up")
	l.ip("-n " + id + " link set lo up")
	l.ip("-n " + id + " link set eth0 up")
	l.ip("-n " + id + " addr add " + v4 + " dev eth0")
	l.ip("-n " + id + " addr add " + v6 + " dev eth0 nodad")
	if gw4 != "" {
		l.ip("-n " + id + " route add default via " + gw4)
		l.ip("-n " + id + " -6 route add default via " + gw6)
	}
	l.ns[name] = path
	nstest.In(l.t, path, func() { serve(l.t, name, ":80") })
}

// outside makes a host on a link of its own: .1 is our host, .2 the other.
func (l *lab) outside(name, net4, net6 string) {
	l.node(name, net4+".2/24", net6+"::2/64", "", "")
	l.ip("addr add " + net4 + ".1/24 dev v-" + name)
	l.ip("addr add " + net6 + "::1/64 dev v-" + name + " nodad")
	id := l.ns[name][strings.LastIndex(l.ns[name], "/")+1:]
	l.ip("-n " + id + " route add default via " + net4 + ".1")
	l.ip("-n " + id + " -6 route add default via " + net6 + "::1")
}

// network makes a bridge; its number is in its addresses.
func (l *lab) network(number int) *Rules {
	br := fmt.Sprint("br", number)
	l.ip(fmt.Sprintf("link add %s address 02:00:00:00:00:%02x type bridge", br, number)) // or it would be that of the port with the lowest
	l.ip("link set " + br + " up")
	l.ip(fmt.Sprintf("addr add 10.%d.0.1/24 dev %s", number, br))
	l.ip(fmt.Sprintf("addr add fd00:%d::1/64 dev %s nodad", number, br))
	l.sysctl("ipv4/conf/"+br+"/route_localnet", "1")
	return &Rules{Backend: l.backend, Bridge: br, Masquerade: true}
}

// container attaches one to the network. Its addresses end in the number.
func (l *lab) container(name string, r *Rules, number int, ports ...attach.Port) *attach.Attachment {
	l.t.Helper()
	subnet := strings.TrimPrefix(r.Bridge, "br")
	v4 := fmt.Sprintf("10.%s.0.%d/24", subnet, number)
	v6 := fmt.Sprintf("fd00:%s::%d/64", subnet, number)
	gw4, gw6 := "10."+subnet+".0.1", "fd00:"+subnet+"::1"
	if r.Internal && number%2 == 0 { // the others have a way that the firewall must close
		gw4, gw6 = "", ""
	}
	l.node(name, v4, v6, gw4, gw6)
	l.ip("link set v-" + name + " master " + r.Bridge)
	if l.brNetfilter {
		// Bridged frames are translated before they are routed: to the same port.
		l.ip("link set v-" + name + " type bridge_slave hairpin on")
	} else if r.NoICC {
		l.ip("link set v-" + name + " type bridge_slave isolated on")
	}
	a := attachment(name, []string{v4, v6}, ports...)
	a.Network = r.Bridge
	a.Steps = []attach.Step{r}
	if err := r.Add(context.Background(), &attach.Adding{Attachment: a}); err != nil {
		l.t.Fatal(err)
	}
	l.made = append(l.made, a)
	return a
}

// serve answers on TCP and UDP with the name and the client's address.
func serve(t testing.TB, name, at string) {
	t.Helper()
	tcp, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close(); udp.Close() })
	answer := func(from net.Addr) []byte {
		addr, _ := netip.ParseAddrPort(from.String())
		return []byte(name + " saw " + addr.Addr().Unmap().String())
	}
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write(answer(c.RemoteAddr()))
			c.Close()
		}
	}()
	go func() {
		buf := make([]byte, 100)
		for {
			_, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo(answer(from), from)
		}
	}()
}

const noAnswer = ""

// expect connects from a node to an address and port, and compares the answer.
func (l *lab) expect(what, from, network, to, want string) {
	l.t.Helper()
	wait := 3 * time.Second
	if want == noAnswer {
		wait = 150 * time.Millisecond
	}
	if got := l.ask(from, network, to, wait); got != want {
		l.t.Errorf("%s: %s to %s %s: %q, want %q", what, from, network, to, got, want)
	}
}

// expectSoon is expect at the same time as others, until answers is called.
func (l *lab) expectSoon(what, from, network, to, want string) {
	l.t.Helper()
	if l.ns[from] == "" { // where no other goroutine is
		l.expect(what, from, network, to, want)
		return
	}
	l.asked.Go(func() { l.expect(what, from, network, to, want) })
}

// answers waits for what was expected soon.
func (l *lab) answers() { l.asked.Wait() }

func (l *lab) ask(from, network, to string, wait time.Duration) (answer string) {
	l.t.Helper()
	do := func() {
		d := net.Dialer{Timeout: wait}
		c, err := d.Dial(network, to)
		if err != nil {
			return
		}
		defer c.Close()
		answer = talk(c, wait)
	}
	if l.ns[from] == "" {
		do()
	} else {
		nstest.In(l.t, l.ns[from], do)
	}
	return answer
}

func talk(c net.Conn, wait time.Duration) string {
	_ = c.SetDeadline(time.Now().Add(wait))
	if c.RemoteAddr().Network() == "udp" {
		_, _ = c.Write([]byte("?"))
		buf := make([]byte, 100)
		n, _ := c.Read(buf)
		return string(buf[:n])
	}
	all, _ := io.ReadAll(c)
	return string(all)
}
