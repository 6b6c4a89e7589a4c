package attach

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"testing"
)

// keptConsistent tells how the four places of kept addresses disagree, or one is leased.
func (t *Tx) keptConsistent() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	counts := map[string]int{}
	bits := map[string][]byte{}
	addresses := 0
	err := t.bucket(keptBucket).ForEach(func(key, v []byte) error {
		addresses++
		network, addr := string(key[:len(key)-17]), netip.AddrFrom16([16]byte(key[len(key)-16:])).Unmap()
		k, ok := parseKept(v)
		if !ok {
			wrong("kept %s %s: %x", network, addr, v)
			return nil
		}
		a16 := addr.As16()
		if got := t.bucket(keeperBucket).Get(keeperKey(network, k.who)); !bytes.Equal(got, a16[:]) {
			wrong("%s is kept for %q, who has %x", addr, k.who, got)
		}
		if got := t.bucket(keptAgeBucket).Get(ageKey(network, k.set, k.seq)); !bytes.Equal(got, a16[:]) {
			wrong("%s is kept at age %d, where %x is", addr, k.seq, got)
		}
		if holder, held := t.Holder(network, addr); held {
			wrong("%s is kept for %q and leased by %s", addr, k.who, holder)
		}
		counts[string(ageKey(network, k.set, 0))]++
		block, bit := blockKey(network, addr)
		if bits[string(block)] == nil {
			bits[string(block)] = make([]byte, blockLen)
		}
		bits[string(block)][bit/8] |= 1 << (bit % 8)
		return nil
	})
	errs = append(errs, err)
	names, ages := 0, 0
	errs = append(errs, t.bucket(keeperBucket).ForEach(func(_, _ []byte) error { names++; return nil }))
	errs = append(errs, t.bucket(keptAgeBucket).ForEach(func(key, v []byte) error {
		if len(v) == 16 {
			ages++
		} else if n := counts[string(key)]; n != int(binary.BigEndian.Uint32(v)) {
			wrong("%x counts %d, and has %d", key, binary.BigEndian.Uint32(v), n)
		} else {
			delete(counts, string(key))
		}
		return nil
	}))
	if names != addresses || ages != addresses || len(counts) > 0 {
		wrong("%d addresses, %d names, %d ages, %d sets uncounted", addresses, names, ages, len(counts))
	}
	errs = append(errs, t.bucket(keptBlockBucket).ForEach(func(key, v []byte) error {
		if !bytes.Equal(bits[string(key)], v) {
			wrong("block %x is %x, want %x", key, v, bits[string(key)])
		}
		delete(bits, string(key))
		return nil
	}))
	if len(bits) > 0 {
		wrong("%d blocks have no bitmap", len(bits))
	}
	return errors.Join(errs...)
}

// named is an attachment with a name and a lease from each of some range sets.
func named(container, name string, leases ...string) *Attachment {
	a := &Attachment{Key: Key{Network: "n", Container: container, IfName: "eth0"}, Sticky: name}
	for _, l := range leases {
		a.Leases = append(a.Leases, netip.MustParseAddr(l))
	}
	return a
}

// comeAndGo leases the attachment's addresses, and gives them back.
func comeAndGo(tx *Tx, all ...*Attachment) error {
	for _, a := range all {
		for _, l := range a.Leases {
			if err := tx.Lease(l, a.Key); err != nil {
				return err
			}
		}
		if err := errors.Join(tx.put(a), tx.drop(a)); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tx) keptFor(name string, set int) string {
	if addr, ok := t.Kept("n", name, "eth0", set); ok {
		return addr.String()
	}
	return ""
}

func TestKept(t *testing.T) {
	s := testStore(t)
	first, last := netip.MustParseAddr("10.0.0.0"), netip.MustParseAddr("10.0.0.255")
	update(t, s, func(tx *Tx) error {
		return comeAndGo(tx, named("c1", "web", "10.0.0.0", "fd00::1"), named("c2", "db", "10.0.0.1", "fd00::2"), named("c3", "", "10.0.0.2"))
	})
	update(t, s, func(tx *Tx) error {
		for _, want := range [][3]string{{"web", "10.0.0.0", "fd00::1"}, {"db", "10.0.0.1", "fd00::2"}, {"nobody", "", ""}, {"", "", ""}} {
			if got4, got6 := tx.keptFor(want[0], 0), tx.keptFor(want[0], 1); got4 != want[1] || got6 != want[2] {
				t.Errorf("%q: %s %s, want %s %s", want[0], got4, got6, want[1], want[2])
			}
		}
		if _, ok := tx.Kept("n", "web", "eth1", 0); ok {
			t.Error("kept for another interface")
		}
		if a, ok := tx.FirstUnkept("n", first, last); !ok || a.String() != "10.0.0.2" {
			t.Errorf("FirstUnkept: %s, %v; want the one that no name had", a, ok)
		}
		if a, ok := tx.FirstFree("n", first, last); !ok || a != first {
			t.Errorf("FirstFree: %s, %v", a, ok)
		}
		// Another name's container takes it, and a second of the first name gives another back.
		return comeAndGo(tx, named("c4", "other", "10.0.0.0"), named("c5", "db", "10.0.0.9"))
	})
	update(t, s, func(tx *Tx) error {
		for name, want := range map[string]string{"web": "", "other": "10.0.0.0", "db": "10.0.0.9"} {
			if got := tx.keptFor(name, 0); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
		all := func(netip.Addr) bool { return true }
		if a, ok, err := tx.OldestKept("n", 0, all); err != nil || !ok || a.String() != "10.0.0.0" {
			t.Errorf("OldestKept: %s, %v, %v", a, ok, err)
		}
		// What no range has any more is forgotten.
		a, ok, err := tx.OldestKept("n", 0, func(a netip.Addr) bool { return a.String() == "10.0.0.9" })
		if err != nil || !ok || a.String() != "10.0.0.9" || tx.keptFor("other", 0) != "" {
			t.Errorf("OldestKept that fits: %s, %v, %v; %q", a, ok, err, tx.keptFor("other", 0))
		}
		if _, ok, err := tx.OldestKept("n", 0, func(netip.Addr) bool { return false }); ok || err != nil {
			t.Errorf("none fits: %v, %v", ok, err)
		}
		if tx.keptFor("web", 1) == "" {
			t.Error("another set's is forgotten")
		}
		return tx.ForgetNetwork("n")
	})
	update(t, s, func(tx *Tx) error {
		if got := tx.keptFor("web", 1); got != "" {
			t.Errorf("the network is forgotten, and %s kept", got)
		}
		return nil
	})
}

// TestKeptUndone: what a transaction does that fails, and a lease of another's, keeps nothing.
func TestKeptUndone(t *testing.T) {
	s := testStore(t)
	update(t, s, func(tx *Tx) error { return comeAndGo(tx, named("c1", "web", "10.0.0.1")) })
	fault := errors.New("fault")
	err := s.Update(t.Context(), func(tx *Tx) error {
		return errors.Join(comeAndGo(tx, named("c2", "db", "10.0.0.1")), fault)
	})
	if !errors.Is(err, fault) {
		t.Fatal(err)
	}
	holder := named("c3", "holder", "10.0.0.2")
	update(t, s, func(tx *Tx) error {
		if got := tx.keptFor("web", 0); got != "10.0.0.1" || tx.keptFor("db", 0) != "" {
			t.Errorf("web %q, db %q", got, tx.keptFor("db", 0))
		}
		if err := errors.Join(tx.Lease(holder.Leases[0], holder.Key), tx.put(holder)); err != nil {
			return err
		}
		stranger := named("c4", "stranger", "10.0.0.2")
		return errors.Join(tx.put(stranger), tx.drop(stranger))
	})
	update(t, s, func(tx *Tx) error {
		if got := tx.keptFor("stranger", 0); got != "" {
			t.Errorf("%s is kept, and leased", got)
		}
		return nil
	})
}

// TestKeptByOlder: versions before this one lease addresses, and do not forget whose they
// were. Nobody is given one of these, and what is kept afterwards agrees.
func TestKeptByOlder(t *testing.T) {
	s := testStore(t)
	other := named("c3", "", "10.0.0.1")
	update(t, s, func(tx *Tx) error {
		if err := comeAndGo(tx, named("c1", "web", "10.0.0.1"), named("c2", "db", "10.0.0.2")); err != nil {
			return err
		}
		return errors.Join(
			tx.bucket(leaseBucket).Put(leaseKey("n", other.Leases[0]), other.Key.bytes()),
			tx.setBit(usedBucket, "n", other.Leases[0], true), tx.put(other))
	})
	update(t, s, func(tx *Tx) error {
		if got := tx.keptFor("web", 0); got != "" {
			t.Errorf("web is given %s, which another has", got)
		}
		return comeAndGo(tx, named("c4", "web", "10.0.0.3"))
	})
	update(t, s, func(tx *Tx) error {
		if got := tx.keptFor("web", 0); got != "10.0.0.3" {
			t.Errorf("web: %q", got)
		}
		if err := tx.keptConsistent(); err != nil {
			t.Error(err)
		}
		for _, b := range []string{"10.0.0.3", "10.0.0.2"} { // leased again by an older version
			a := named("o"+b, "", b)
			if err := errors.Join(tx.bucket(leaseBucket).Put(leaseKey("n", a.Leases[0]), a.Key.bytes()),
				tx.setBit(usedBucket, "n", a.Leases[0], true), tx.put(a)); err != nil {
				return err
			}
		}
		if a, ok, err := tx.OldestKept("n", 0, func(netip.Addr) bool { return true }); ok || err != nil {
			t.Errorf("%s is the oldest, and leased, %v", a, err)
		}
		return nil
	})
}

// TestKeptEnds: no more than so many addresses of a range set are kept, the youngest.
func TestKeptEnds(t *testing.T) {
	s := testStore(t)
	update(t, s, func(tx *Tx) error {
		addr := netip.MustParseAddr("fd00::1")
		for i := range mostKept + 5 {
			a := named(fmt.Sprint("c", i), fmt.Sprint("name", i))
			a.Leases = []netip.Addr{addr}
			if err := comeAndGo(tx, a); err != nil {
				return err
			}
			addr = addr.Next()
		}
		for i, want := range map[int]bool{0: false, 4: false, 5: true, mostKept + 4: true} {
			if got := tx.keptFor(fmt.Sprint("name", i), 0); (got != "") != want {
				t.Errorf("name%d: %q", i, got)
			}
		}
		if n, err := tx.countKept("n", 0, 0); n != mostKept || err != nil {
			t.Errorf("%d are kept, %v", n, err)
		}
		return nil
	})
}
