package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/graph"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/overlay"
)

// savedOverlay is what an agent leaves behind of [example], on host-a.
func savedOverlay(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	s := example().state
	u := overlay.Update{}
	for _, n := range s.Networks {
		u.Networks = append(u.Networks, n)
	}
	for _, n := range s.Nodes {
		u.Nodes = append(u.Nodes, n)
	}
	for _, b := range s.Blocks {
		u.Blocks = append(u.Blocks, b)
	}
	data, err := json.Marshal(map[string]any{"networks": u.Networks, "nodes": u.Nodes, "blocks": u.Blocks})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "state.json"), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	local := &overlay.Local{Network: s.Networks["blue"], Node: "host-a", MTU: 1450, Blocks: s.BlocksOf("blue", "host-a")}
	if err := local.Write(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Other hosts are those of the agent's last run; whether they are reached, only a
// running one knows.
func TestGraphOverlay(t *testing.T) {
	nstest.Host(t)
	dir := savedOverlay(t)
	code, out, errs := berth(t, nil, "graph", "--data-dir", dir, "--listen", "127.0.0.1:1")
	for _, want := range []string{
		"blue  vxlan-overlay  overlay4097, not made yet  vxlan4097  UDP 4789  ! vxlan4097 is missing",
		"├─ ≈≈  host-b  192.0.2.2  10.42.9.0/24  by vxlan4097\n", "└─ ≈≈  host-c  192.0.2.3  10.42.77.0/24  by vxlan4097\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%d: no %q in\n%s%s", code, want, out, errs)
		}
	}
	if strings.Contains(out+errs, "secret") || errs != "" {
		t.Error(out, errs)
	}
}

func TestGraphFiles(t *testing.T) {
	nstest.Host(t)
	dir, _ := realHost(t)
	file := filepath.Join(t.TempDir(), "host.svg")
	if code, out, errs := berth(t, nil, "graph", "--svg", file, "--state-dir", dir); code != exitDone || out != "" {
		t.Fatalf("%d, %q, %s", code, out, errs)
	}
	data, err := os.ReadFile(file)
	_, out, _ := berth(t, nil, "graph", "--format", "svg", "--state-dir", dir)
	if err != nil || string(data) != out || !strings.HasPrefix(out, "<svg ") || !strings.Contains(out, "br-blue") {
		t.Errorf("%v\n%s", err, out)
	}
	var g graph.Graph
	if _, out, _ = berth(t, nil, "graph", "--format", "json", "--state-dir", dir); json.Unmarshal([]byte(out), &g) != nil || len(g.Nodes) != 6 {
		t.Error(out)
	}
	if code, _, errs := berth(t, nil, "graph", "--svg", "/run/nowhere/x.svg", "--state-dir", dir); code != exitFailed || !strings.Contains(errs, "/run/nowhere") {
		t.Errorf("%d, %s", code, errs)
	}
}
