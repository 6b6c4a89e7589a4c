package attach

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"testing"
)

func subnets(all ...string) (p []netip.Prefix) {
	for _, s := range all {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

func TestEnsureNetwork(t *testing.T) {
	s := testStore(t)
	ensure := func(n Network) (known Network, changed bool, err error) {
		err = s.Update(t.Context(), func(tx *Tx) error {
			known, changed, err = tx.EnsureNetwork(n)
			return err
		})
		return known, changed, err
	}
	a := Network{Name: "a", Plugin: "bridge", Link: "berth0", Subnets: subnets("10.1.0.0/16", "fd00::/64"), Settings: []string{"masq"}}
	if _, changed, err := ensure(a); changed || err != nil {
		t.Errorf("new: %v, %v", changed, err)
	}
	if _, changed, err := ensure(a); changed || err != nil {
		t.Errorf("again: %v, %v", changed, err)
	}
	was := a
	a.Settings = []string{"masq", "internal"}
	if known, changed, err := ensure(a); !changed || err != nil || !reflect.DeepEqual(known, was) {
		t.Errorf("other settings: %+v, %v, %v", known, changed, err)
	}

	for _, c := range []struct {
		name string
		n    Network
		ok   bool
	}{
		{"overlap on another link", Network{Name: "b", Link: "berth1", Subnets: subnets("10.1.2.0/24")}, false},
		{"a wider subnet", Network{Name: "b", Link: "berth1", Subnets: subnets("192.0.2.0/24", "10.0.0.0/8")}, false},
		{"IPv6", Network{Name: "b", Link: "berth1", Subnets: subnets("fd00::/48")}, false},
		{"the same link", Network{Name: "b", Link: "berth0", Subnets: subnets("10.1.2.0/24")}, true},
		{"beside it", Network{Name: "b", Link: "berth1", Subnets: subnets("10.2.0.0/16", "fd00:1::/64")}, true},
		{"no subnet", Network{Name: "c", Link: "berth2"}, true},
	} {
		_, _, err := ensure(c.n)
		var overlap *OverlapError
		if c.ok && err != nil || !c.ok && (!errors.As(err, &overlap) || overlap.Other.Name != "a") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	_, _, err := ensure(Network{Name: "d", Link: "berth9", Subnets: subnets("10.1.2.0/24")})
	if want := `subnet 10.1.2.0/24 overlaps 10.1.0.0/16 of network "a" on berth0`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	update(t, s, func(tx *Tx) error { return tx.ForgetNetwork("a") })
	if _, _, err := ensure(Network{Name: "d", Link: "berth9", Subnets: subnets("10.1.2.0/24")}); err != nil {
		t.Errorf("after the network is gone: %v", err)
	}
}

// TestEnsureEmpty: an empty list is none, so that nothing seems to have changed.
func TestEnsureEmpty(t *testing.T) {
	update(t, testStore(t), func(tx *Tx) error {
		n := Network{Name: "a", Link: "berth0", Subnets: []netip.Prefix{}, Settings: []string{}}
		for range 2 {
			if _, changed, err := tx.EnsureNetwork(n); changed || err != nil {
				t.Errorf("changed: %v, %v", changed, err)
			}
		}
		return nil
	})
}

func TestForwarded(t *testing.T) {
	update(t, testStore(t), func(tx *Tx) error {
		n := Network{Name: "a", Link: "berth0", Forwarded: true}
		if err := tx.PutNetwork(n); err != nil {
			return err
		}
		n.Forwarded = false
		if _, changed, err := tx.EnsureNetwork(n); changed || err != nil {
			t.Errorf("the same link: changed %v, %v", changed, err)
		}
		n.Link = "berth1"
		if _, changed, err := tx.EnsureNetwork(n); !changed || err != nil {
			t.Errorf("another link: changed %v, %v", changed, err)
		}
		if got, ok := tx.Network("a"); !ok || got.Forwarded || got.Link != "berth1" {
			t.Errorf("got %+v", got)
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
