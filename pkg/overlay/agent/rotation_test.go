package agent

import (
	"net/netip"
	"testing"
)

func TestHalves(t *testing.T) {
	for block, want := range map[string][2]string{
		"10.42.1.0/24": {"10.42.1.0/25", "10.42.1.128/25"}, "10.0.0.0/8": {"10.0.0.0/9", "10.128.0.0/9"}, "10.1.2.4/30": {"10.1.2.4/31", "10.1.2.6/31"},
		"fd00:42:0:1::/64": {"fd00:42:0:1::/65", "fd00:42:0:1:8000::/65"}, "fd00::/126": {"fd00::/127", "fd00::2/127"},
	} {
		got := halves([]netip.Prefix{netip.MustParsePrefix(block)})
		if len(got) != 2 || got[0].String() != want[0] || got[1].String() != want[1] {
			t.Errorf("%s: %v, want %v", block, got, want)
		}
	}
}
