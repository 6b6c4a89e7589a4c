package vxlan

import (
	"strings"
	"testing"
)

func TestSweep(t *testing.T) {
	me := alone(t)
	empty := resting(t)
	old := me.device()
	mustSync(t, plane(t, open(t), old, node{id: 2}.peer()))
	run(t, "ip link add foreign type vxlan id 7 dstport 8472")
	h := open(t)
	d := me.device()
	d.Name, d.VNI, d.Addresses, d.Subnets = "vxlan43", 43, nil, d.Subnets[1:]
	mustSync(t, plane(t, h, d))
	c, err := h.Sweep()
	if err != nil || c != (Changes{Device: 1, Unreachable: 1}) {
		t.Errorf("sweep changed %s, %v; want one device and one route", c, err)
	}
	if out := output(t, "ip -br link"); strings.Contains(out, "vxlan42") || !strings.Contains(out, "vxlan43") || !strings.Contains(out, "foreign") {
		t.Errorf("after sweep:\n%s", out)
	}
	if c, err := h.Sweep(); err != nil || c.Total() != 0 {
		t.Errorf("a second sweep changed %s, %v", c, err)
	}
	if err := h.planes[0].Delete(); err != nil {
		t.Fatal(err)
	}
	run(t, "ip link del foreign")
	if got := settled(t, empty); got != empty {
		t.Errorf("what is left:\n%s", diff(empty, got))
	}
}
