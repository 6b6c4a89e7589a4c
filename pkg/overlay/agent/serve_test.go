package agent

import (
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// still is an agent that says the same always.
type still Status

func (s *still) Status() Status { return Status(*s) }

// healthy is an agent with two networks.
func healthy() *still {
	p := netip.MustParsePrefix
	return &still{
		Node: "host-a", Ready: true,
		Underlay: UnderlayStatus{Address: netip.MustParseAddr("192.0.2.1"), Device: "eth0", MTU: 1500},
		Store:    StoreStatus{Registered: true, Nodes: 3},
		Networks: []NetworkStatus{
			{Name: "blue", VNI: 4097, Device: "vxlan4097", Bridge: "overlay4097", MTU: 1450, Port: 4789, Peers: 2,
				Blocks:  []BlockStatus{{Prefix: p("10.42.3.0/24"), Size: 253, Free: 200}},
				Repairs: map[string]uint64{"route": 3, "fdb": 1}, Probes: ProbeStatus{OK: 2}},
			{Name: "green", VNI: 77, Device: "vxlan77", Bridge: "overlay77", MTU: 1400, Port: 8472,
				Blocks:  []BlockStatus{{Prefix: p("10.44.0.128/25"), Size: 125, Free: 125}, {Prefix: p("fd00:44:0:7::/64"), Size: 4e18, Free: 4e18}},
				Repairs: map[string]uint64{}},
		},
		Counters: map[string]uint64{"store_updates": 7, "kernel_repairs": 4},
	}
}

func get(t *testing.T, a Statuser, path string) (*http.Response, string) {
	t.Helper()
	server := httptest.NewServer(handler(a, "devel"))
	defer server.Close()
	resp, err := http.Get(server.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestHealth(t *testing.T) {
	ill := &still{Why: "the store has not been read yet"}
	for _, c := range []struct {
		agent Statuser
		path  string
		code  int
		body  string
	}{
		{healthy(), "/healthz", 200, "alive\n"},
		{healthy(), "/readyz", 200, "ready\n"},
		{ill, "/healthz", 200, "alive\n"},
		{ill, "/readyz", 503, "the store has not been read yet\n"},
		{ill, "/", 404, "404 page not found\n"},
	} {
		if resp, body := get(t, c.agent, c.path); resp.StatusCode != c.code || body != c.body {
			t.Errorf("%s: %s, %q; want %d, %q", c.path, resp.Status, body, c.code, c.body)
		}
	}
}

func TestNothingIsWritten(t *testing.T) {
	server := httptest.NewServer(handler(healthy(), "devel"))
	defer server.Close()
	for _, path := range []string{"/healthz", "/readyz", "/status"} {
		resp, err := http.Post(server.URL+path, "text/plain", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %s", path, resp.Status)
		}
	}
}

func TestStatus(t *testing.T) {
	resp, body := get(t, healthy(), "/status")
	var s Status
	if err := json.Unmarshal([]byte(body), &s); err != nil || resp.Header.Get("Content-Type") != "application/json" {
		t.Fatal(err, resp.Header)
	}
	if s.Node != "host-a" || len(s.Networks) != 2 || s.Networks[0].Blocks[0].Prefix.String() != "10.42.3.0/24" {
		t.Errorf("%+v", s)
	}
}

func TestMetrics(t *testing.T) {
	a := healthy()
	a.Store.Away, a.Store.Since = true, noon
	a.Networks[1].Problem = "no block is left"
	a.Networks[0].Probes.Failing = []FailedPeer{{Peer: "host-c", State: "no-answer", Verdict: "no answer", Since: noon}}
	a.Bad = []BadStatus{{Key: "/berth/v1/nodes/x", Error: "not JSON"}}
	resp, body := get(t, a, "/metrics")
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", resp.Status, body)
	}
	ours := regexp.MustCompile(`(?m)^(# (HELP|TYPE) )?berth_.*\n`).FindAllString(body, -1)
	got := strings.Join(ours, "")
	const path = "testdata/metrics.txt"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); err != nil || got != string(want) {
		t.Errorf("%v, or not as in %s (-update writes it):\n%s", err, path, got)
	}
	for _, other := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(body, "\n"+other+" ") {
			t.Errorf("no %s", other)
		}
	}
}

func TestCounterName(t *testing.T) {
	for word, want := range map[string]string{"updates": "updates_total", "store-losses": "store_losses_total", "nodeJoins": "node_joins_total", "x_total": "x_total"} {
		if got := counterName(word); got != want {
			t.Errorf("%s: %s, want %s", word, got, want)
		}
	}
}
