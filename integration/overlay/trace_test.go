package overlay

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
)

// TestTrace follows a flow to a container of another host, and says where it goes when that
// host does not answer.
func TestTrace(t *testing.T) {
	t.Parallel()
	b := newBed(t, 2, options{})
	b.container(b.Hosts[0], "one")
	two := b.container(b.Hosts[1], "two")
	trace := func(to string) (r struct{ Verdict, Why, Mend string }, out string) {
		t.Helper()
		out, _ = b.Hosts[0].Output(filepath.Join(b.bin, "berth"), "trace", "--format", "json", "one", to)
		must(t, json.Unmarshal([]byte(out), &r))
		return r, out
	}
	var targets []string
	for _, a := range two.addrs {
		at := netip.AddrPortFrom(a, 8000).String()
		stop, err := two.Serve(at)
		must(t, err)
		defer stop()
		targets = append(targets, at)
	}
	for _, to := range targets {
		if r, out := trace(to); r.Verdict != "arrives" {
			t.Errorf("%s: %s", to, out)
		}
	}
	_, err := b.Hosts[1].Output("sh", "-c", "nft add table inet guard; nft 'add chain inet guard p { type filter hook prerouting priority -310; }'; "+
		fmt.Sprintf("nft add rule inet guard p udp dport %d drop", b.definition(b.Hosts[0], "blue").Port))
	must(t, err)
	for _, to := range targets {
		if r, out := trace(to); r.Verdict != "no answer" || !strings.Contains(r.Mend, "berth doctor") {
			t.Errorf("%s, cut off: %s", to, out)
		}
	}
}
