package link_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/nstest"
)

func TestList(t *testing.T) {
	nstest.Host(t)
	other := nstest.Namespace(t)
	for _, cmd := range [][]string{
		{"ip", "link", "add", "br7", "type", "bridge"},
		{"ip", "link", "set", "br7", "up", "alias", "mine"},
		{"ip", "link", "add", "near", "mtu", "1400", "address", "02:00:00:00:00:01", "type", "veth", "peer", "name", "far"},
		{"ip", "link", "set", "near", "master", "br7"},
		{"ip", "link", "set", "far", "netns", other[len("/run/netns/"):]},
		{"ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"},
	} {
		if err := nstest.Run(cmd[0], cmd[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	all, err := link.List()
	if err != nil {
		t.Fatal(err)
	}
	find := func(name string) link.Link {
		i := slices.IndexFunc(all, func(l link.Link) bool { return l.Name == name })
		if i < 0 {
			t.Fatalf("no %s in %+v", name, all)
		}
		return all[i]
	}
	br, near := find("br7"), find("near")
	if lo := find("lo"); lo.Index != 1 || lo.Kind != "" || !lo.Up || lo.MTU != 65536 {
		t.Errorf("lo is %+v", lo)
	}
	if br.Kind != "bridge" || !br.Up || br.Alias != "mine" || br.Master != 0 || br.PeerAway {
		t.Errorf("the bridge is %+v", br)
	}
	if near.Kind != "veth" || near.MTU != 1400 || near.Up || near.Master != br.Index || !near.PeerAway || near.MAC.String() != "02:00:00:00:00:01" {
		t.Errorf("the port is %+v", near)
	}
	if find("v0").PeerAway {
		t.Error("a pair within the namespace has an end elsewhere")
	}
	if slices.ContainsFunc(all, func(l link.Link) bool { return l.Name == "far" }) {
		t.Error("the list has an interface of another namespace")
	}
}

func TestListAddresses(t *testing.T) {
	nstest.Host(t)
	for _, cmd := range []string{"ip link add br9 type bridge", "ip link add br8 type bridge", "ip address add 10.9.0.1/24 dev br9", "ip address add 10.9.1.1/24 dev br9",
		"ip -6 address add fd00:9::1/64 dev br9 nodad", "ip address add 10.8.0.1/24 dev br8"} {
		words := strings.Fields(cmd)
		if err := nstest.Run(words[0], words[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	all, err := link.ListAddresses()
	if err != nil {
		t.Fatal(err)
	}
	links, err := link.List()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"br9": "[10.9.0.1/24 10.9.1.1/24 fd00:9::1/64]", "br8": "[10.8.0.1/24]"} {
		if got := fmt.Sprint(all[link.ByName(links)[name].Index]); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
