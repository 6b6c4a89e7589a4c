package floor_test

import (
	"net/netip"
	"testing"

	"github.com/berth-cni/berth/integration/floor"
	"github.com/berth-cni/berth/integration/sandbox"
)

// TestAddDel makes one link that carries traffic, and removes it.
func TestAddDel(t *testing.T) {
	h, err := sandbox.New()
	must(t, err)
	defer h.Close()
	must(t, h.Script(`
		ip link add br0 address 02:00:00:00:00:01 type bridge
		ip addr add 10.1.0.1/16 dev br0
		ip link set br0 up`))
	c, err := h.Container("c1")
	must(t, err)
	add := func() error {
		return h.Do(func() error {
			br, err := floor.Index("br0")
			if err != nil {
				return err
			}
			return floor.Add(floor.Link{
				Bridge: br, Name: "floor1", Peer: "eth0", MAC: [6]byte{2, 0x42, 10, 1, 0, 2},
				Netns: c.Netns, Address: netip.MustParsePrefix("10.1.0.2/16"), Gateway: netip.MustParseAddr("10.1.0.1"),
			})
		})
	}
	del := func() error { return h.Do(func() error { return floor.Del("floor1") }) }
	must(t, add()) // gives the bridge its link-local address
	must(t, del())
	before, err := h.Snapshot(c.Netns)
	must(t, err)
	must(t, add())
	stop, err := c.Serve(":80")
	must(t, err)
	defer stop()
	answer, err := h.Ask("10.1.0.2:80")
	must(t, err)
	if answer != "c1 10.1.0.1" {
		t.Errorf("answer %q", answer)
	}
	if _, err := c.Output("ip", "route", "get", "198.51.100.1"); err != nil {
		t.Error(err)
	}
	must(t, del())
	after, err := h.Snapshot(c.Netns)
	must(t, err)
	for _, l := range before.Without("conntrack").Diff(after.Without("conntrack")) {
		t.Error("left behind", l)
	}
	if del() == nil {
		t.Error("no error for a link that is gone")
	}
}

// TestMacvlan makes one interface that carries traffic to the machine outside, and
// removes it.
func TestMacvlan(t *testing.T) {
	h, err := sandbox.New()
	must(t, err)
	defer h.Close()
	outside, err := h.Outside()
	must(t, err)
	stop, err := outside.Serve(":80")
	must(t, err)
	defer stop()
	c, err := h.Container("c1")
	must(t, err)
	m := floor.Macvlan{Name: "eth0", MAC: [6]byte{2, 0x42, 192, 0, 2, 100}, Netns: c.Netns,
		Address: netip.MustParsePrefix("192.0.2.100/24"), Gateway: netip.MustParseAddr(sandbox.OutsideAddr4)}
	must(t, h.Do(func() (err error) {
		m.Master, err = floor.Index(sandbox.Uplink)
		return err
	}))
	before, err := h.Snapshot(c.Netns)
	must(t, err)
	must(t, h.Do(m.Add))
	answer, err := c.Ask(sandbox.OutsideAddr4 + ":80")
	must(t, err)
	if answer != "outside 192.0.2.100" {
		t.Errorf("answer %q", answer)
	}
	if _, err := c.Output("ip", "route", "get", "198.51.100.1"); err != nil {
		t.Error(err)
	}
	must(t, h.Do(m.Del))
	after, err := h.Snapshot(c.Netns)
	must(t, err)
	for _, l := range before.Without("conntrack").Diff(after.Without("conntrack")) {
		t.Error("left behind", l)
	}
	if h.Do(m.Del) == nil {
		t.Error("no error for an interface that is gone")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
