package overlay

import (
	"strings"
	"testing"
)

// TestMetrics: the agent's metrics count what plugins did, which are processes of their own.
func TestMetrics(t *testing.T) {
	b := newBed(t, 1, options{})
	h := b.Hosts[0]
	one, two := b.container(h, "one"), b.container(h, "two")
	if _, err := b.network(h, "blue").Add(one.Container); err == nil {
		t.Fatal("a second ADD: no error")
	}
	must(t, b.network(h, "blue").Check(two.Container))
	must(t, b.network(h, "blue").Del(two.Container))
	text, err := h.Get("http://127.0.0.1:9477/metrics")
	must(t, err)
	for _, line := range []string{
		`berth_attachments{network="blue",plugin="vxlan-overlay"} 1`,
		`berth_plugin_duration_seconds_count{verb="ADD"} 2`,
		`berth_plugin_duration_seconds_count{verb="CHECK"} 1`,
		`berth_plugin_duration_seconds_count{verb="DEL"} 1`,
		`berth_plugin_errors_total{code="102",verb="ADD"} 1`,
		`berth_plugin_phase_duration_seconds_count{phase="veth",verb="ADD"} 2`,
		`berth_plugin_phase_duration_seconds_count{phase="claim",verb="ADD"} 2`,
		`berth_plugin_duration_seconds_bucket{verb="ADD",le="+Inf"} 2`,
		`berth_network_peers{network="blue"} 0`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no %s", line)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}
