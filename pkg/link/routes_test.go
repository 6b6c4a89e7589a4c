package link

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/berth-cni/berth/pkg/nstest"
)

func TestHostRoutes(t *testing.T) {
	nstest.Host(t)
	for _, args := range [][]string{
		{"link", "add", "wire", "type", "veth", "peer", "name", "far"},
		{"link", "add", "overlay5", "type", "bridge"},
		{"link", "set", "wire", "up"}, {"link", "set", "far", "up"}, {"link", "set", "overlay5", "up"},
		{"address", "add", "192.0.2.7/24", "dev", "wire"},
		{"address", "add", "2001:db8::7/64", "dev", "wire", "nodad"},
		{"address", "add", "198.51.100.9/32", "dev", "lo"},
		{"address", "add", "10.42.3.1/24", "dev", "overlay5"},
		{"route", "add", "default", "via", "192.0.2.1"},
		{"route", "add", "172.20.0.0/16", "via", "192.0.2.1"},
		{"route", "add", "172.21.0.0/16", "via", "192.0.2.1", "table", "77"},
		{"route", "add", "10.42.5.0/24", "via", "192.0.2.1", "proto", "98"},
		{"route", "add", "unreachable", "10.42.0.0/16", "proto", "98"},
		{"route", "add", "blackhole", "203.0.113.0/24"},
	} {
		if err := nstest.Run("ip", args...); err != nil {
			t.Fatal(err)
		}
	}
	want := []HostRoute{
		{netip.MustParsePrefix("172.20.0.0/16"), "wire"},
		{netip.MustParsePrefix("172.21.0.0/16"), "wire"},
		{netip.MustParsePrefix("192.0.2.0/24"), "wire"},
		{netip.MustParsePrefix("198.51.100.9/32"), "lo"},
		{netip.MustParsePrefix("203.0.113.0/24"), ""},
		{netip.MustParsePrefix("2001:db8::/64"), "wire"},
	}
	got, err := HostRoutes("overlay5")
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v (%v), want %v", got, err, want)
	}
	all, err := HostRoutes()
	if err != nil || !slices.Contains(all, HostRoute{netip.MustParsePrefix("10.42.3.0/24"), "overlay5"}) {
		t.Errorf("without an exception: %v (%v)", all, err)
	}
}
