package integration

import (
	"fmt"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// TestGC collects with each shape of the list: an absent key says nothing; null and
// an empty list say that nobody is valid.
func TestGC(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n, before := b.used(bridge)
	const keep = `[{"containerID": "c0", "ifname": "eth0"}, {"containerID": "c1", "ifname": "eth1"}]`
	for _, test := range []struct {
		name, list string
		stay       []bool // c0, c1
	}{
		{"absent", "", []bool{true, true}},
		{"list, by container and interface", `"cni.dev/valid-attachments": ` + keep, []bool{true, false}},
		{"the older name of the key", `"cni.dev/attachments": ` + keep, []bool{true, false}},
		{"null", `"cni.dev/valid-attachments": null`, []bool{false, false}},
		{"empty", `"cni.dev/valid-attachments": []`, []bool{false, false}},
	} {
		var boxes []*sandbox.Container
		for i := range test.stay {
			boxes = append(boxes, b.container(fmt.Sprintf("c%d", i)))
			b.add(n, boxes[i], tcpPort(8080+i, 80))
		}
		more := []string{}
		if test.list != "" {
			more = append(more, test.list)
		}
		gc := sandbox.Call{Verb: "GC", Config: config(version, bridge, more...)}
		if out := b.good(b.call(gc)).Stdout; out != "" {
			t.Errorf("%s: GC wrote %q", test.name, out)
		}
		for i, stay := range test.stay {
			if err := n.Check(boxes[i], tcpPort(8080+i, 80)); (err == nil) != stay {
				t.Errorf("%s: %s: stays %v, want %v: %v", test.name, boxes[i].ID, err == nil, stay, err)
			}
			must(t, n.Del(boxes[i], tcpPort(8080+i, 80)))
			must(t, boxes[i].Remove())
		}
		b.same(before, "GC, "+test.name)
	}
	gc := sandbox.Call{Verb: "GC", Config: config(version, bridge, `"cni.dev/valid-attachments": "all"`)}
	b.refused(b.call(gc), 0, "valid-attachments")
}

// TestGCLeavesOtherNetworks collects one network beside another.
func TestGCLeavesOtherNetworks(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n, _ := b.used(bridge)
	c := b.container("c1")
	b.add(n, c)
	other := `{"cniVersion": "1.1.0", "name": "other", "type": "bridge", "bridge": "berth1",
		"ipam": {"subnet": "10.89.0.0/24"}, "cni.dev/valid-attachments": []}`
	b.good(b.call(sandbox.Call{Verb: "GC", Config: other}))
	must(t, n.Check(c))
}

// TestStatus asks for the status of a network that is in order, has no address
// left, and has an impossible configuration.
func TestStatus(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	small := `{"type": "bridge", "bridge": "berth0", "isGateway": true, "ipam": {"subnet": "10.88.0.0/29"}}`
	n := b.network(small)
	must(t, n.Status())
	for i := range 5 { // 8 addresses without network, gateway and broadcast
		b.add(n, b.container(fmt.Sprintf("c%d", i)))
	}
	if code := sandbox.Code(n.Status()); code != 50 {
		t.Errorf("code %d with an exhausted pool, want 50", code)
	}
	before := b.snapshot()
	last := b.container("last")
	b.refused(b.call(sandbox.Call{Verb: "ADD", Container: last.ID, Netns: last.Netns, Config: config(version, small)}), 0,
		"no free address", "10.88.0.")
	must(t, last.Remove())
	b.same(before, "after a refused ADD")
	b.refused(b.call(sandbox.Call{Verb: "STATUS", Config: config(version, `{"type": "bridge", "ipam": {"subnet": "10.88.0.0/64"}}`)}), 0, "10.88.0.0/64")
}
