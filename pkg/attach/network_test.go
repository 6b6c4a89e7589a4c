package attach

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func subnets(all ...string) (p []netip.Prefix) {
	for _, s := range all {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

func ranges(all ...string) (r [][2]netip.Addr) {
	for _, s := range all {
		first, last, _ := strings.Cut(s, "-")
		r = append(r, [2]netip.Addr{netip.MustParseAddr(first), netip.MustParseAddr(last)})
	}
	return r
}

func TestEnsureNetwork(t *testing.T) {
	s := testStore(t)
	ensure := func(n Network) (known Network, err error) {
		err = s.Update(t.Context(), func(tx *Tx) error {
			known, err = tx.EnsureNetwork(n)
			return err
		})
		return known, err
	}
	a := Network{Name: "a", Plugin: "bridge", Link: "berth0", Subnets: subnets("10.1.0.0/16", "fd00::/64"), Settings: []string{"masq"}}
	if known, err := ensure(a); known.Made || known.Settings != nil || err != nil {
		t.Errorf("new: %+v, %v", known, err)
	}
	if known, err := ensure(a); known.Made || err != nil {
		t.Errorf("again, nothing made: %+v, %v", known, err)
	}
	update(t, s, func(tx *Tx) error { return tx.MadeNetwork("a", a.Settings) })
	was := a.Settings
	a.Settings = []string{"masq", "internal"}
	if known, err := ensure(a); !known.Made || !slices.Equal(known.Settings, was) || err != nil {
		t.Errorf("other settings, not yet made: %+v, %v", known, err)
	}
	update(t, s, func(tx *Tx) error { return tx.MadeNetwork("a", a.Settings) })
	if known, err := ensure(a); !slices.Equal(known.Settings, a.Settings) || err != nil {
		t.Errorf("other settings, made: %+v, %v", known, err)
	}
	a.Ranges = ranges("10.1.0.2-10.1.0.99")
	if _, err := ensure(a); err != nil {
		t.Error(err)
	}

	for _, c := range []struct {
		name string
		n    Network
		ok   bool
	}{
		{"overlap on another link", Network{Name: "b", Link: "berth1", Subnets: subnets("10.1.2.0/24")}, false},
		{"a wider subnet", Network{Name: "b", Link: "berth1", Subnets: subnets("192.0.2.0/24", "10.0.0.0/8")}, false},
		{"IPv6", Network{Name: "b", Link: "berth1", Subnets: subnets("fd00::/48")}, false},
		{"the same link", Network{Name: "b", Link: "berth0", Subnets: subnets("10.1.0.0/16"), Ranges: ranges("10.1.0.100-10.1.0.200")}, true},
		{"a range on the same link", Network{Name: "b", Link: "berth0", Ranges: ranges("10.1.0.50-10.1.0.200")}, false},
		{"its own, moved to another link", Network{Name: "a", Link: "berth1", Subnets: subnets("10.1.0.0/16")}, false},
		{"beside it", Network{Name: "b", Link: "berth1", Subnets: subnets("10.2.0.0/16", "fd00:1::/64")}, true},
		{"no subnet", Network{Name: "c", Link: "berth2"}, true},
	} {
		_, err := ensure(c.n)
		var overlap *OverlapError
		if c.ok && err != nil || !c.ok && (!errors.As(err, &overlap) || overlap.Other.Name != "a") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	_, err := ensure(Network{Name: "d", Link: "berth9", Subnets: subnets("10.1.2.0/24")})
	if want := `subnet 10.1.2.0/24 overlaps 10.1.0.0/16 of network "a" on berth0`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	update(t, s, func(tx *Tx) error { return tx.ForgetNetwork("a") })
	if _, err := ensure(Network{Name: "d", Link: "berth9", Subnets: subnets("10.1.2.0/24")}); err != nil {
		t.Errorf("after the network is gone: %v", err)
	}
}

// Another link has not been made yet.
func TestMadeOnAnotherLink(t *testing.T) {
	update(t, testStore(t), func(tx *Tx) error {
		n := Network{Name: "a", Link: "berth0"}
		if err := tx.PutNetwork(Network{Name: "a", Link: "berth0", Made: true}); err != nil {
			return err
		}
		if known, err := tx.EnsureNetwork(n); !known.Made || err != nil {
			t.Errorf("the same link: %+v, %v", known, err)
		}
		n.Link = "berth1"
		if known, err := tx.EnsureNetwork(n); known.Made || err != nil {
			t.Errorf("another link: %+v, %v", known, err)
		}
		return nil
	})
}

// A million names that are alike, as runtimes and people make them, have a million
// hashes.
func TestHashes(t *testing.T) {
	seen := make(map[string]Key, 1_000_000)
	for i := range 250_000 {
		for _, k := range []Key{
			{Network: "web", Container: fmt.Sprintf("c%d", i), IfName: "eth0"}, {Network: "web", Container: fmt.Sprintf("c%d", i), IfName: "eth1"},
			{Network: "web2", Container: fmt.Sprintf("%064x", i), IfName: "eth0"}, {Network: fmt.Sprintf("n%d", i), Container: "c", IfName: "eth0"},
		} {
			h := k.Hash()
			if other, twice := seen[h]; twice {
				t.Fatalf("%v and %v have the hash %s", k, other, h)
			}
			seen[h] = k
		}
	}
}

// What is forgotten leaves nothing, and takes nothing of networks with like names.
func TestForgetNetwork(t *testing.T) {
	s := testStore(t)
	update(t, s, func(tx *Tx) error { return nil })
	empty := dump(t, s)
	put := func(tx *Tx, name string) error {
		for _, pool := range []string{"0", "1"} {
			if err := tx.SetCursor(name, pool, netip.MustParseAddr("10.1.0.7")); err != nil {
				return err
			}
		}
		return tx.PutNetwork(Network{Name: name})
	}
	update(t, s, func(tx *Tx) error { return put(tx, "net2") })
	other := dump(t, s)
	update(t, s, func(tx *Tx) error { return put(tx, "net") })
	update(t, s, func(tx *Tx) error { return tx.ForgetNetwork("net") })
	same(t, dump(t, s), other)
	update(t, s, func(tx *Tx) error { return tx.ForgetNetwork("net2") })
	same(t, dump(t, s), empty)
}

// TestLinkMode: networks on one link want it in one mode while both have containers. One that
// has none gives way, and has to ask again.
func TestLinkMode(t *testing.T) {
	s := testStore(t)
	ensure := func(name, link, mode string) error {
		return s.Update(t.Context(), func(tx *Tx) error {
			_, err := tx.EnsureNetwork(Network{Name: name, Plugin: "ipvlan", Link: link, LinkMode: mode})
			return err
		})
	}
	for _, n := range [][3]string{{"a", "eth0", "l2 bridge"}, {"same", "eth0", "l2 bridge"}, {"other", "eth1", "l3 bridge"}, {"macvlan", "eth0", ""}} {
		if err := ensure(n[0], n[1], n[2]); err != nil {
			t.Errorf("%s: %v", n[0], err)
		}
	}
	update(t, s, func(tx *Tx) error {
		return tx.put(&Attachment{Key: Key{Network: "a", Container: "c1", IfName: "eth0"}})
	})
	err := ensure("b", "eth0", "l3 bridge")
	var mode *LinkModeError
	if !errors.As(err, &mode) || err.Error() != `eth0 is in mode l2 bridge for network "a", and has one mode for all: it cannot be in mode l3 bridge` {
		t.Errorf("got %v", err)
	}
	if err := (&Network{Name: "b", Link: "eth0", LinkMode: "l3 bridge"}).Status(t.Context(), s, ""); !errors.As(err, &mode) {
		t.Errorf("STATUS: %v", err)
	}
	if err := ensure("a", "eth0", "l3 bridge"); !errors.As(err, &mode) || mode.Other.Name != "a" {
		t.Errorf("another mode under its own containers: %v", err)
	}
	if err := ensure("a", "eth0", "l2 bridge"); err != nil {
		t.Errorf("its own mode: %v", err)
	}
	last := netip.MustParseAddr("192.0.2.7")
	update(t, s, func(tx *Tx) error {
		a := &Attachment{Key: Key{Network: "a", Container: "c1", IfName: "eth0"}}
		return errors.Join(tx.drop(a), tx.SetCursor("a", "0", last))
	})
	if err := ensure("b", "eth0", "l3 private"); err != nil {
		t.Errorf("no container is in the way: %v", err)
	}
	update(t, s, func(tx *Tx) error {
		if got := tx.Cursor("a", "0"); got != last {
			t.Errorf("who gives way has forgotten what it leased last: %v", got)
		}
		return nil
	})
	update(t, s, func(tx *Tx) error {
		return tx.put(&Attachment{Key: Key{Network: "b", Container: "c2", IfName: "eth0"}})
	})
	if err := ensure("a", "eth0", "l3 bridge"); !errors.As(err, &mode) || mode.Other.Name != "b" {
		t.Errorf("it was there before, and has given way: %v", err)
	}
}
