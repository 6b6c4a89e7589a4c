package vxlan

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/nstest"
)

// ping sends a packet with the biggest payload that fits the MTU, not to be split.
func ping(t *testing.T, from, to node, mtu int) {
	t.Helper()
	nstest.In(t, from.path, func() {
		for _, a := range []netip.Addr{to.inner4(), to.inner6()} {
			header := 28
			if a.Is6() {
				header = 48
			}
			f := strings.Fields(fmt.Sprintf("ping -n -q -c 1 -W 1 -M do -s %d %s", mtu-header, a))
			var err error
			for range 10 { // a busy machine may take its time
				if _, err = nstest.Output(f[0], f[1:]...); err == nil {
					break
				}
			}
			if err != nil {
				t.Errorf("from %s: %v", from.name(), err)
			}
		}
	})
}

// transfer sends a megabyte over TCP.
func transfer(t *testing.T, from, to node, addr netip.Addr) {
	t.Helper()
	const size = 1 << 20
	var l net.Listener
	var err error
	nstest.In(t, to.path, func() { l, err = net.Listen("tcp", netip.AddrPortFrom(addr, 0).String()) })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan int64, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			got <- -1
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		n, _ := io.Copy(io.Discard, conn)
		got <- n
	}()
	nstest.In(t, from.path, func() {
		conn, err := net.DialTimeout("tcp", l.Addr().String(), 3*time.Second)
		if err != nil {
			t.Errorf("from %s: %v", from.name(), err)
			l.Close()
			return
		}
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := conn.Write(make([]byte, size)); err != nil {
			t.Error(err)
		}
		conn.Close()
	})
	if n := <-got; n != size {
		t.Errorf("%s got %d bytes of %d by %s", to.name(), n, size, addr)
	}
}

func TestThreeHosts(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		name := "IPv4 underlay"
		if v6 {
			name = "IPv6 underlay"
		}
		t.Run(name, func(t *testing.T) {
			all := hosts(t, 3, v6)
			planes := join(t, all)
			for _, from := range all {
				for _, to := range all {
					if from.id != to.id {
						ping(t, from, to, from.device().MTU)
					}
				}
			}
			transfer(t, all[0], all[1], all[1].inner4())
			transfer(t, all[2], all[0], all[0].inner6())
			nstest.In(t, all[0].path, func() { // nobody's: no way by another route
				run(t, "ip route add default dev eth0")
				if out, err := nstest.Output("ping", "-n", "-c", "1", "-W", "1", "10.42.99.1"); err == nil {
					t.Errorf("a subnet that nobody has: %s", out)
				} else if !strings.Contains(err.Error(), "o route to host") && !strings.Contains(err.Error(), "nreachable") {
					t.Errorf("a subnet that nobody has: %v, want unreachable", err)
				}
				if err := planes[0].Delete(); err != nil {
					t.Error(err)
				}
				if s := output(t, "ip route show table all proto 98") + output(t, "ip -6 route show table all proto 98") + output(t, "ip -br link show type vxlan"); s != "" {
					t.Errorf("Delete left %s", s)
				}
			})
		})
	}
}

// A host changes its underlay address, another loses its device: both are back as soon
// as they say so.
func TestHostMoves(t *testing.T) {
	all := hosts(t, 2, false)
	planes := join(t, all)
	nstest.In(t, all[1].path, func() {
		run(t, "ip address flush dev eth0")
		run(t, "ip address add 192.0.2.102/24 dev eth0")
		d := all[1].device()
		d.Local = netip.MustParseAddr("192.0.2.102")
		if err := planes[1].SetDevice(d); err != nil {
			t.Fatal(err)
		}
		if c := mustSync(t, planes[1]); c != (Changes{Device: 1}) {
			t.Errorf("another underlay address changed %s", c)
		}
	})
	nstest.In(t, all[0].path, func() {
		peer := all[1].peer()
		peer.Underlay = netip.MustParseAddr("192.0.2.102")
		if err := planes[0].SetPeer(peer); err != nil {
			t.Fatal(err)
		}
	})
	ping(t, all[0], all[1], 1450)
	ping(t, all[1], all[0], 1450)
	nstest.In(t, all[0].path, func() {
		run(t, "ip link del vxlan42")
		mustSync(t, planes[0])
	})
	ping(t, all[1], all[0], 1450)
}

// A checksum that is not offloaded is still right.
func TestNoChecksumOffload(t *testing.T) {
	all := hosts(t, 2, false)
	planes := join(t, all)
	feature := func() bool {
		return strings.Contains(output(t, "ethtool -k vxlan42"), "tx-checksumming: on")
	}
	nstest.In(t, all[0].path, func() {
		d := all[0].device()
		d.NoChecksumOffload = true
		if err := planes[0].SetDevice(d); err != nil {
			t.Fatal(err)
		}
		if c := mustSync(t, planes[0]); c != (Changes{Device: 1}) {
			t.Errorf("changed %s, want the device once", c)
		}
		if feature() {
			t.Error("tx-checksumming is on")
		}
	})
	transfer(t, all[0], all[1], all[1].inner4())
	nstest.In(t, all[0].path, func() {
		if err := planes[0].SetDevice(all[0].device()); err != nil {
			t.Fatal(err)
		}
		mustSync(t, planes[0])
		if !feature() {
			t.Error("tx-checksumming is still off")
		}
		run(t, "ethtool -K vxlan42 tx off")
		if c := mustSync(t, planes[0]); c.Total() != 0 || feature() {
			t.Errorf("changed %s: the administrator's setting was undone", c)
		}
	})
}

// A peer that takes less is sent less, and the sender is told.
func TestPeerMTU(t *testing.T) {
	all := hosts(t, 2, false)
	planes := join(t, all)
	ct := nstest.Namespace(t)
	nstest.In(t, all[0].path, func() {
		small := all[1].peer()
		small.MTU = 1300
		if err := planes[0].SetPeer(small); err != nil {
			t.Fatal(err)
		}
		if c := mustSync(t, planes[0]); c.Total() != 0 {
			t.Errorf("sync after SetPeer changed %s", c)
		}
		run(t, "ip link add ov type veth peer name eth0 netns "+ct[strings.LastIndex(ct, "/")+1:])
		run(t, "ip address add 10.42.1.1/24 dev ov")
		run(t, "ip address add fd00:42:0:1::1/64 dev ov nodad")
		run(t, "ip link set ov up")
		run(t, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
	})
	nstest.In(t, ct, func() {
		run(t, "ip address add 10.42.1.2/24 dev eth0")
		run(t, "ip address add fd00:42:0:1::2/64 dev eth0 nodad")
		run(t, "ip link set eth0 up")
		run(t, "ip route add default via 10.42.1.1")
		run(t, "ip route add default via fd00:42:0:1::1")
		for _, a := range []netip.Addr{all[1].inner4(), all[1].inner6()} {
			size := 1300 - 28
			if a.Is6() {
				size = 1300 - 48
			}
			// The kernel lets a link that has just come up send some moments later.
			if out, err := nstest.Output("ping", "-n", "-c", "3", "-i", "0.5", "-W", "2", "-M", "do", "-s", fmt.Sprint(size), a.String()); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			out, err := nstest.Output("ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", fmt.Sprint(size+1), a.String())
			if err == nil || !strings.Contains(out, "1300") {
				t.Errorf("one byte more: %v\n%s, want to be told of 1300", err, out)
			}
		}
	})
}

// A restart of the agent on a right state changes nothing, and loses no packet.
func TestRestartDisturbsNothing(t *testing.T) {
	all := hosts(t, 2, false)
	join(t, all)
	nstest.In(t, all[0].path, func() {
		before := resting(t)
		monitor := start(t, "ip", "monitor", "all")
		flow := start(t, "ping", "-n", "-q", "-c", "60", "-i", "0.01", "-W", "1", all[1].inner4().String())
		for range 5 {
			p := plane(t, open(t), all[0].device(), all[1].peer())
			if c := mustSync(t, p); c.Total() != 0 {
				t.Errorf("a restart changed %s", c)
			}
		}
		if out := flow.wait(); !strings.Contains(out, " 0% packet loss") {
			t.Errorf("the flow: %s", out)
		}
		if out := monitor.stop(); strings.Contains(out, "vxlan42") {
			t.Errorf("a restart was heard of: %s", out)
		}
		if after := settled(t, before); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	})
}
