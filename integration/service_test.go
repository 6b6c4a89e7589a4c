package integration

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
)

// service is one of Kubernetes', of one family, with one endpoint: what kube-proxy
// (v1.36) writes for it, by hand. A node port keeps its client's address where the port is
// one of externalTrafficPolicy Local.
type service struct {
	ip, endpoint                   string
	port, target, nodePort, locals int
	pods                           string // interfaces that pods are behind, of detectLocalMode InterfaceNamePrefix
}

func (s *service) family() (ip, iptables, target string) {
	if strings.Contains(s.ip, ":") {
		return "ip6", "ip6tables", fmt.Sprintf("[%s]:%d", s.endpoint, s.target)
	}
	return "ip", "iptables", fmt.Sprintf("%s:%d", s.endpoint, s.target)
}

// nftables is the table of kube-proxy's mode nftables.
func (s *service) nftables() string {
	ip, _, target := s.family()
	t := `table IP kube-proxy {
	chain mark-for-masquerade { meta mark set meta mark or 0x4000; }
	chain masquerading { meta mark and 0x4000 == 0 return; meta mark set meta mark xor 0x4000; masquerade fully-random; }
	chain endpoint { IP saddr ENDPOINT jump mark-for-masquerade; meta l4proto { tcp, udp } dnat to TARGET; }
	chain service { iifname != "PODS*" IP daddr VIP jump mark-for-masquerade; goto endpoint; }
	chain external { jump mark-for-masquerade; goto endpoint; }
	chain local { iifname "PODS*" jump mark-for-masquerade; fib saddr type local jump mark-for-masquerade; goto endpoint; }
	chain services {
		IP daddr VIP th dport PORT meta l4proto { tcp, udp } goto service
		fib daddr type local NOLO th dport NODEPORT meta l4proto { tcp, udp } goto external
		fib daddr type local NOLO th dport LOCALS meta l4proto { tcp, udp } goto local
	}
	chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
	chain nat-output { type nat hook output priority -100; jump services; }
	chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
}
`
	noLo := ""
	if ip == "ip" {
		noLo = "ip daddr != 127.0.0.0/8"
	}
	return strings.NewReplacer("IP ", ip+" ", "VIP", s.ip, "ENDPOINT", s.endpoint, "TARGET", target, "NODEPORT", fmt.Sprint(s.nodePort),
		"LOCALS", fmt.Sprint(s.locals), "PORT", fmt.Sprint(s.port), "PODS", s.pods, "NOLO", noLo).Replace(t)
}

// iptables are the rules of kube-proxy's mode iptables.
func (s *service) iptables() string {
	_, program, target := s.family()
	all := `-N KUBE-MARK-MASQ
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-N KUBE-POSTROUTING
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-I POSTROUTING -j KUBE-POSTROUTING
-N KUBE-SEP
-A KUBE-SEP -s ENDPOINT -j KUBE-MARK-MASQ
-A KUBE-SEP -p tcp -j DNAT --to-destination TARGET
-A KUBE-SEP -p udp -j DNAT --to-destination TARGET
-N KUBE-SVC
-A KUBE-SVC ! -i PODS+ -d VIP -j KUBE-MARK-MASQ
-A KUBE-SVC -j KUBE-SEP
-N KUBE-EXT
-A KUBE-EXT -j KUBE-MARK-MASQ
-A KUBE-EXT -j KUBE-SEP
-N KUBE-XLB
-A KUBE-XLB -i PODS+ -j KUBE-MARK-MASQ
-A KUBE-XLB -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
-A KUBE-XLB -j KUBE-SEP
-N KUBE-SERVICES
-A KUBE-SERVICES -d VIP -p tcp --dport PORT -j KUBE-SVC
-A KUBE-SERVICES -d VIP -p udp --dport PORT -j KUBE-SVC
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -p tcp --dport NODEPORT -j KUBE-EXT
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -p tcp --dport LOCALS -j KUBE-XLB
-I PREROUTING -j KUBE-SERVICES
-I OUTPUT -j KUBE-SERVICES
`
	all = strings.NewReplacer("VIP", s.ip, "ENDPOINT", s.endpoint, "TARGET", target, "NODEPORT", fmt.Sprint(s.nodePort),
		"LOCALS", fmt.Sprint(s.locals), "PORT", fmt.Sprint(s.port), "PODS", s.pods).Replace(all)
	var lines []string
	for line := range strings.Lines(all) {
		lines = append(lines, program+" -w 10 -t nat "+line)
	}
	return "sysctl -qw net.ipv4.conf.all.route_localnet=1\n" + strings.Join(lines, "")
}

// proxy writes a service's rules.
func (b *bed) proxy(mode string, s *service) {
	b.t.Helper()
	if mode == "iptables" {
		must(b.t, b.Script(s.iptables()))
		return
	}
	must(b.t, b.Do(func() error { return os.WriteFile("/run/kube-proxy.nft", []byte(s.nftables()), 0o644) }))
	must(b.t, b.Script("nft -f /run/kube-proxy.nft"))
}

// bridgedFiltering has frames between ports of a bridge pass the host's IP firewall, or not.
func (b *bed) bridgedFiltering(on bool) {
	b.t.Helper()
	const path = "/proc/sys/net/bridge/"
	must(b.t, b.Do(func() error {
		if _, err := os.Stat(path); err != nil {
			if on {
				b.t.Skip("the kernel has no br_netfilter")
			}
			return nil
		}
		value := []byte("0")
		if on {
			value = []byte("1")
		}
		return errors.Join(os.WriteFile(path+"bridge-nf-call-iptables", value, 0o644), os.WriteFile(path+"bridge-nf-call-ip6tables", value, 0o644))
	}))
}

// echoes answers each UDP packet with the container's ID and who sent it.
func (b *bed) echoes(c *sandbox.Container, address string) {
	b.t.Helper()
	var conn net.PacketConn
	must(b.t, c.Do(func() (err error) { conn, err = net.ListenPacket("udp", address); return err }))
	b.t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 64)
		for {
			_, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(from.String())
			_, _ = conn.WriteTo([]byte(c.ID+" "+host), from)
		}
	}()
}

// asker asks by UDP.
type asker struct{ do func(func() error) error }

func (a asker) Ask(address string) (answer string, err error) {
	err = a.do(func() error {
		conn, err := net.DialTimeout("udp", address, time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		buf := make([]byte, 64)
		for range 3 {
			_ = conn.SetDeadline(time.Now().Add(700 * time.Millisecond))
			if _, err = conn.Write([]byte("?")); err != nil {
				return err
			}
			n, bad := conn.Read(buf)
			if err = bad; err == nil {
				answer = string(buf[:n])
				break
			}
		}
		return err
	})
	return answer, err
}

// TestServices: what somebody else translates back to the same node, bridge or port arrives,
// with the sender's own address wherever that can be, beside kube-proxy in both of its modes,
// with a bridge and without, and whether br_netfilter is on or off.
func TestServices(t *testing.T) {
	t.Parallel()
	for _, proxy := range []string{"nftables", "iptables"} {
		for _, mode := range []string{"bridge", "routed"} {
			for _, filtering := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s %s br_netfilter %t", proxy, mode, filtering), func(t *testing.T) {
					t.Parallel()
					services(t, proxy, mode, filtering)
				})
			}
		}
	}
}

func services(t *testing.T, proxy, mode string, filtering bool) {
	b := newBed(t)
	b.bridgedFiltering(filtering)
	conf, pods := with(bridge, `"isDefaultGateway": true`), "berth0"
	if mode == "routed" {
		conf, pods = with(routed, `"ipspoofchk": true`), "veth"
	}
	n := b.network(conf)
	c, neighbour := b.container("server"), b.container("client")
	r, addr := b.add(n, c)
	r2, other := b.add(n, neighbour)
	serve(t, c, ":8080")
	b.echoes(c, ":8080")
	for _, s := range []struct {
		service
		client, host, outside, lo string
	}{
		{service{"10.96.0.1", addr, 80, 8080, 30080, 30081, pods}, other, sandbox.HostAddr4, sandbox.OutsideAddr4, "127.0.0.1"},
		{service{"fd00:96::1", strings.Trim(first6(r), "[]"), 80, 8080, 30080, 30081, pods}, strings.Trim(first6(r2), "[]"), sandbox.HostAddr6, sandbox.OutsideAddr6, ""},
	} {
		b.proxy(proxy, &s.service)
		at := func(ip string, port int) string { return net.JoinHostPort(ip, fmt.Sprint(port)) }
		own := s.client
		if mode == "bridge" && !filtering {
			own = "" // the answer goes past the host: it has to be sent to it
		}
		b.answers(neighbour, at(s.ip, 80), c, own)
		b.answers(asker{neighbour.Do}, at(s.ip, 80), c, own)
		b.answers(c, at(s.ip, 80), c, "")
		b.answers(asker{c.Do}, at(s.ip, 80), c, "")
		b.answers(b, at(s.ip, 80), c, "")
		b.answers(b.outside, at(s.host, s.nodePort), c, "")
		b.answers(b.outside, at(s.host, s.locals), c, s.outside)
		b.answers(neighbour, at(s.host, s.nodePort), c, "")
		b.answers(c, at(s.host, s.nodePort), c, "")
		b.answers(b, at(s.host, s.nodePort), c, "")
		if s.lo != "" && proxy == "iptables" {
			b.answers(b, at(s.lo, s.nodePort), c, "")
		}
	}
	must(t, n.Check(c))
	must(t, n.Check(neighbour))
}

// TestNothingComesBack: a port that sends back what the host translates sends back nothing that
// is for many: a container that looks for duplicates of an IPv6 address does not find itself.
func TestNothingComesBack(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.bridgedFiltering(true)
	n := b.network(with(bridge, `"isDefaultGateway": true`))
	c, neighbour := b.container("c1"), b.container("c2")
	r, _ := b.add(n, c)
	b.add(n, neighbour)
	if out, err := b.Output("bridge", "-d", "link", "show", "dev", b.hostEnd(r)); err != nil || !strings.Contains(out, "hairpin on") {
		t.Fatalf("hairpin: %s, %v", out, err)
	}
	must(t, b.Script(`ip netns exec c1 sysctl -qw net.ipv6.conf.eth0.enhanced_dad=0 net.ipv6.conf.all.enhanced_dad=0 net.ipv6.conf.eth0.accept_dad=1
		ip netns exec c1 ip addr add fd00:88::77/64 dev eth0`))
	for range 40 {
		out, err := c.Output("ip", "-6", "addr", "show", "dev", "eth0", "to", "fd00:88::77")
		must(t, err)
		switch {
		case strings.Contains(out, "dadfailed"):
			t.Fatalf("it has found itself:\n%s", out)
		case !strings.Contains(out, "tentative"):
			ping(t, neighbour, "fd00:88::77")
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("the address is tentative still")
}
