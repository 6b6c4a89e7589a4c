package link

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/nstest"
)

func TestUplink(t *testing.T) {
	nstest.Host(t)
	i, addrs, routes, err := Uplink()
	if err != nil || i.Name != "lo" || len(addrs) != 2 || len(routes) != 0 {
		t.Errorf("without a default route: %+v %v %v %v", i, addrs, routes, err)
	}
	for _, cmd := range []string{
		"ip link add up0 type veth peer name up1", "ip link set up0 mtu 1400 up", "ip link set up1 up",
		"ip address add 192.0.2.2/24 dev up0", "ip address add 2001:db8::2/64 dev up0 nodad",
		"ip route add default via 192.0.2.1", "ip -6 route add default via 2001:db8::1",
	} {
		f := strings.Fields(cmd)
		if err := nstest.Run(f[0], f[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	i, addrs, routes, err = Uplink()
	if err != nil || i.Name != "up0" || i.MTU != 1400 || i.Sandbox != "" {
		t.Errorf("%+v %v", i, err)
	}
	want := "[{192.0.2.2/24 192.0.2.1} {2001:db8::2/64 2001:db8::1}]"
	if got := fmt.Sprint(addrs); got != want {
		t.Errorf("addresses %s, want %s", got, want)
	}
	if len(routes) != 2 {
		t.Errorf("routes %v", routes)
	}
}
