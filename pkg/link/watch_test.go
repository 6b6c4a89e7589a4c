package link

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/nstest"
)

func TestWatch(t *testing.T) {
	nstest.Host(t)
	shell(t, "ip link add br9 type bridge", "ip link set br9 up", "ip address add 10.9.0.1/24 dev br9",
		"ip -6 address add fd00:9::1/64 dev br9 nodad", "sysctl -qw net.ipv4.ip_forward=0")
	w, err := Watch()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan string, 1000)
	var watching sync.WaitGroup
	watching.Go(func() {
		if err := w.Run(ctx, func(c Change) { told <- c.New }); err != nil {
			t.Error(err)
		}
	})
	quiet := func() (names map[string]bool) {
		names = map[string]bool{}
		for {
			select {
			case name := <-told:
				names[name] = true
			case <-time.After(200 * time.Millisecond):
				return names
			}
		}
	}
	for _, c := range []struct {
		change string
		want   string // the name; "-": nothing is told
	}{
		{"ip link add br8 type bridge", "br8"},
		{"ip link set br9 mtu 1400", ""},
		{"ip link set br9 address 02:11:22:33:44:55", ""},
		{"ip link set br9 promisc on", ""},
		{"ip route add 10.77.0.0/16 dev br9", "-"},
		{"ip route del 10.77.0.0/16 dev br9", "-"},
		{"ip route add 10.77.0.0/16 dev br9 proto bird", "-"},
		{"ip route replace 10.77.0.0/16 dev br9 mtu 1400 proto bird", "-"},
		{"ip route del 10.77.0.0/16 dev br9", "-"},
		{"ip route replace 10.9.0.0/24 dev lo", ""},
		{"ip route replace 10.9.0.0/24 dev br9 proto kernel scope link src 10.9.0.1", "-"},
		{"ip route del 10.9.0.0/24 dev br9", ""},
		{"ip -6 route del fd00:9::/64 dev br9", ""},
		{"ip route add default dev br9", ""},
		{"ip address add 10.9.1.1/24 dev br9", "-"},
		{"ip address del 10.9.1.1/24 dev br9", ""},
		{"ip -6 address del fd00:9::1/64 dev br9", ""},
		{"sysctl -qw net.ipv4.ip_forward=1", ""},
		{"sysctl -qw net.ipv6.conf.all.forwarding=1", ""},
		{"ip link set br9 down", ""},
		{"ip link set br9 up", ""},
		{"ip link del br9", ""},
	} {
		quiet()
		shell(t, c.change)
		names := quiet()
		if c.want == "-" && len(names) > 0 || c.want != "-" && !names[c.want] {
			t.Errorf("%s: told of %v, want %q", c.change, names, c.want)
		}
	}
	cancel()
	watching.Wait()
}
