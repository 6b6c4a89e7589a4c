package vxlan

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

func TestInspect(t *testing.T) {
	me := alone(t)
	peers := []Peer{node{id: 2}.peer(), node{id: 3}.peer()}
	peers[1].MTU = 1300
	mustSync(t, plane(t, open(t), me.device(), peers...))
	d, got, err := Inspect("vxlan42")
	if err != nil {
		t.Fatal(err)
	}
	for i := range peers {
		peers[i].Name = ""
	}
	if fmt.Sprint(got) != fmt.Sprint(peers) {
		t.Errorf("peers %v\nwant  %v", got, peers)
	}
	if fmt.Sprint(d) != fmt.Sprint(me.device()) {
		t.Errorf("device %v\nwant   %v", d, me.device())
	}
	if _, _, err := Inspect("eth0"); !errors.Is(err, unix.ENODEV) {
		t.Errorf("a device of another kind: %v", err)
	}
}
