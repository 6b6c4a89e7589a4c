package parent

import (
	"testing"

	"github.com/berth-cni/berth/pkg/link/internal/linktest"
)

func TestFind(t *testing.T) {
	other := linktest.LAN(t)
	if p, err := Find("", ""); p != nil || err != nil {
		t.Errorf("without a default route: %+v, %v", p, err)
	}
	if p, err := Find("", "nobody"); p != nil || err != nil {
		t.Errorf("no such interface: %+v, %v", p, err)
	}
	linktest.Run(t, "ip link set up0 mtu 1400\nip route add default via 10.88.255.2")
	if p, err := Find("", ""); err != nil || p == nil || p.Name != "up0" || p.MTU != 1400 {
		t.Errorf("the default route's: %+v, %v", p, err)
	}
	if p, err := Find(other, "up0"); err != nil || p == nil || p.MTU != 1500 {
		t.Errorf("the other host's: %+v, %v", p, err)
	}
}
