package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/doctor"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/overlay"
)

func TestDoctorColours(t *testing.T) {
	r := &doctor.Report{Checks: []doctor.Finding{{Check: "a", OK: true}, {Check: "b", Problems: []doctor.Problem{{What: "x", Why: "y", Mend: "z"}}}, {Check: "c", Error: "e"}}}
	var b bytes.Buffer
	writeReport(&b, r, true)
	for _, want := range []string{green + "ok" + plain, red + "BAD" + plain, yellow + "?" + plain} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in %q", want, b.String())
		}
	}
}

// On a real host: what is there is found, by an agent that answers.
func TestDoctorLooks(t *testing.T) {
	nstest.Host(t)
	for _, args := range [][]string{{"link", "add", "vxlan4097", "mtu", "1450", "type", "vxlan", "id", "4097", "dstport", "4789", "local", "127.0.0.1"}} {
		if err := nstest.Run("ip", args...); err != nil {
			t.Fatal(err)
		}
	}
	m := example()
	t.Setenv("BERTH_STATE_DIR", t.TempDir())
	dir := t.TempDir()
	local := &overlay.Local{Network: m.state.Networks["blue"], Node: "host-a", MTU: 1450, Blocks: m.state.BlocksOf("blue", "host-a")}
	if err := local.Write(dir); err != nil {
		t.Fatal(err)
	}
	code, out, errs := berth(t, m, "doctor", "--format", "json", "--data-dir", dir, "--listen", "127.0.0.1:1")
	var r doctor.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitFailed || len(r.Checks) != 26 {
		t.Fatalf("%d, %v\n%s%s", code, err, out, errs)
	}
	bad := map[string]string{}
	for _, c := range r.Checks {
		for _, p := range c.Problems {
			bad[c.Check] += p.What
		}
		if c.Error != "" {
			t.Errorf("%s: %s", c.Check, c.Error)
		}
	}
	if len(bad) != 2 || bad["the agent runs"] != "no agent runs on this host" || bad["VXLAN devices are there and up"] != "network blue: device vxlan4097 is down" {
		t.Errorf("%q", bad)
	}
}

// On a host without an overlay the doctor does not wait for a store that nobody has
// named.
func TestDoctorUnused(t *testing.T) {
	nstest.Host(t)
	code, out, _ := berth(t, nil, "doctor", "--listen", "127.0.0.1:1")
	if code != exitDone || !strings.Contains(out, "takes no part in overlay networks") {
		t.Errorf("%d, %s", code, out)
	}
	code, out, _ = berth(t, nil, "doctor", "--listen", "127.0.0.1:1", "--etcd-endpoints", "http://192.0.2.9:2379")
	if code != exitFailed || !strings.Contains(out, "this program cannot use the store: this test has no store") {
		t.Errorf("%d, %s", code, out)
	}
}
