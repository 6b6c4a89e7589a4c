package overlay

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestMetrics: the agent's metrics count what plugins did, which are processes of their own.
func TestMetrics(t *testing.T) {
	b := newBed(t, 2, options{})
	h := b.Hosts[0]
	far, err := b.Hosts[1].Peer("blue", false)
	must(t, err)
	must(t, h.Script("ip route del "+far.Blocks[0].String()))
	one, two := b.container(h, "one"), b.container(h, "two")
	if _, err := b.network(h, "blue").Add(one.Container); err == nil {
		t.Fatal("a second ADD: no error")
	}
	must(t, b.network(h, "blue").Check(two.Container))
	must(t, b.network(h, "blue").Del(two.Container))
	var text string
	b.eventually(patience, func() (err error) {
		text, err = h.Get("http://127.0.0.1:9477/metrics")
		if err == nil && !strings.Contains(text, "berth_repairs_total{") {
			err = errors.New("no repair is counted")
		}
		return err
	})
	for _, line := range []string{
		`berth_attachments{network="blue",plugin="vxlan-overlay"} 1`,
		`berth_plugin_duration_seconds_count{verb="ADD"} 2`,
		`berth_plugin_duration_seconds_count{verb="CHECK"} 1`,
		`berth_plugin_duration_seconds_count{verb="DEL"} 1`,
		`berth_plugin_errors_total{code="102",verb="ADD"} 1`,
		`berth_plugin_phase_duration_seconds_count{phase="veth",verb="ADD"} 2`,
		`berth_plugin_phase_duration_seconds_count{phase="claim",verb="ADD"} 2`,
		`berth_plugin_duration_seconds_bucket{verb="ADD",le="+Inf"} 2`,
		`berth_network_peers{network="blue"} 1`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no %s", line)
		}
	}
	monitoring(t, text)
	if t.Failed() {
		t.Log(text)
	}
}

// monitoring asks that every metric is served that the dashboard and the alerts of
// deploy/monitoring name.
func monitoring(t *testing.T, served string) {
	t.Helper()
	var dashboard, alerts any
	read := func(file string, decode func([]byte, any) error, to any) (metrics []string) {
		text, err := os.ReadFile(filepath.Join("../../deploy/monitoring", file))
		must(t, err)
		if err := decode(text, to); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		return regexp.MustCompile(`\bberth_[a-z_]+`).FindAllString(string(text), -1)
	}
	all := append(read("dashboard.json", json.Unmarshal, &dashboard), read("alerts.yaml", unmarshalYAML, &alerts)...)
	if len(all) < 20 {
		t.Errorf("only %d metrics are named", len(all))
	}
	for _, name := range all {
		histogram := regexp.MustCompile("_(bucket|sum|count)$").ReplaceAllString(name, "")
		if !strings.Contains(served, "# TYPE "+name+" ") && !strings.Contains(served, "# TYPE "+histogram+" histogram") {
			t.Errorf("deploy/monitoring names %s, which is not served", name)
		}
	}
}

func unmarshalYAML(text []byte, to any) error { return yaml.Unmarshal(text, to) }
