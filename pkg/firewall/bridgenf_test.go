package firewall

import (
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestFilterBridged: the settings are on afterwards, and the rule by which the kernel loads
// the module is taken and does not stay.
func TestFilterBridged(t *testing.T) {
	nstest.Host(t)
	path := proc.Net("bridge", "bridge-nf-call-ip6tables")
	if value, err := proc.Read(path); value == "" {
		t.Skipf("the kernel has no br_netfilter: %v", err)
	}
	if _, err := proc.Set(path, "0"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		if changed, err := FilterBridged(); err != nil || changed != want {
			t.Errorf("changed %v, %v; want %v", changed, err, want)
		}
	}
	if value, err := proc.Read(path); value != "1" {
		t.Errorf("it is %q, %v", value, err)
	}
	if err := loadBridgeNetfilter(); err != nil {
		t.Errorf("the rule that has the module loaded: %v", err)
	}
	if out, err := nstest.Output("nft", "list", "tables"); err != nil || strings.Contains(out, "berth_load") {
		t.Errorf("left: %q, %v", out, err)
	}
}
