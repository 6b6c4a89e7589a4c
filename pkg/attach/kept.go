package attach

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strconv"
)

// An address that an attachment with a name gives back ([Attachment.Sticky]) is kept for it:
// the store remembers whose it was until somebody leases it. It is there four times: by
// address, to forget it; by name, to find it; by age, to find the one that has been kept
// longest; and in a bitmap as leases are, to find one that nobody has and nobody had. Each
// costs a lookup, however many there are.

// mostKept is how many addresses of one range set are kept; beyond it the oldest is forgotten.
// An IPv6 subnet would not end.
const mostKept = 1 << 14

// keeper is by whom an address is kept: a name's interface, one address from each range set.
func keeper(name, ifName string, set int) string {
	return name + "\x00" + ifName + "\x00" + strconv.Itoa(set)
}

func keeperKey(network, who string) []byte { return []byte(network + "\x00" + who) }

// ageKey sorts by age: seq counts up. With seq 0 it is the place of the number of a set's
// addresses.
func ageKey(network string, set uint16, seq uint64) []byte {
	key := binary.BigEndian.AppendUint16([]byte(network+"\x00"), set)
	return binary.BigEndian.AppendUint64(key, seq)
}

// kept is what is remembered of an address.
type kept struct {
	set uint16
	seq uint64
	who string
}

const keptHead = 10 // bytes of set and seq

func (k kept) bytes() []byte {
	v := binary.BigEndian.AppendUint16(nil, k.set)
	return append(binary.BigEndian.AppendUint64(v, k.seq), k.who...)
}

func parseKept(v []byte) (k kept, ok bool) {
	if len(v) < keptHead {
		return k, false
	}
	return kept{binary.BigEndian.Uint16(v), binary.BigEndian.Uint64(v[2:]), string(v[keptHead:])}, true
}

// Kept returns the address that a name's interface gave back last, of a range set of the
// network; false when none is kept for it.
func (t *Tx) Kept(network, name, ifName string, set int) (netip.Addr, bool) {
	if name == "" {
		return netip.Addr{}, false
	}
	addr, ok := t.lastOf(network, keeper(name, ifName, set))
	return addr, ok && !t.leased(network, addr)
}

func (t *Tx) lastOf(network, who string) (netip.Addr, bool) {
	return parseAddr16(t.bucket(keeperBucket).Get(keeperKey(network, who)))
}

// leased tells whether somebody has an address that is kept: versions before sticky networks,
// which may have run in between, lease it and do not forget whose it was.
func (t *Tx) leased(network string, addr netip.Addr) bool {
	_, ok := t.Holder(network, addr)
	return ok
}

// FirstUnkept returns the lowest address in [from, to] that nobody leases, and that is kept
// for nobody.
func (t *Tx) FirstUnkept(network string, from, to netip.Addr) (netip.Addr, bool) {
	return t.firstFree(network, from, to, usedBucket, keptBlockBucket)
}

// OldestKept returns the address of a range set that has been kept longest. One that does not
// fit, since the set had other ranges, or that is leased, is forgotten on the way.
func (t *Tx) OldestKept(network string, set int, fits func(netip.Addr) bool) (netip.Addr, bool, error) {
	for {
		addr, ok := t.oldest(network, uint16(set))
		if !ok || fits(addr) && !t.leased(network, addr) {
			return addr, ok, nil
		}
		if err := t.forgetKept(network, addr); err != nil {
			return netip.Addr{}, false, err
		}
	}
}

func (t *Tx) oldest(network string, set uint16) (netip.Addr, bool) {
	first := ageKey(network, set, 1)
	key, v := t.bucket(keptAgeBucket).Cursor().Seek(first)
	if len(key) != len(first) || !bytes.HasPrefix(key, first[:len(first)-8]) {
		return netip.Addr{}, false
	}
	return parseAddr16(v)
}

// keep remembers whose an address was that is leased no more.
func (t *Tx) keep(a *Attachment, set int, addr netip.Addr) error {
	k := kept{set: uint16(set), who: keeper(a.Sticky, a.IfName, set)}
	if before, ok := t.lastOf(a.Network, k.who); ok {
		if err := t.forgetKept(a.Network, before); err != nil {
			return err
		}
	}
	err := t.forgetKept(a.Network, addr)
	if err != nil {
		return err
	}
	if k.seq, err = t.bucket(keptAgeBucket).NextSequence(); err != nil {
		return err
	}
	a16 := addr.As16()
	for _, put := range []struct{ bucket, key, value []byte }{
		{keptBucket, leaseKey(a.Network, addr), k.bytes()},
		{keeperBucket, keeperKey(a.Network, k.who), a16[:]},
		{keptAgeBucket, ageKey(a.Network, k.set, k.seq), a16[:]},
	} {
		if err := t.bucket(put.bucket).Put(put.key, put.value); err != nil {
			return err
		}
	}
	if err := t.setBit(keptBlockBucket, a.Network, addr, true); err != nil {
		return err
	}
	n, err := t.countKept(a.Network, k.set, 1)
	if err != nil || n <= mostKept {
		return err
	}
	if old, ok := t.oldest(a.Network, k.set); ok {
		return t.forgetKept(a.Network, old)
	}
	return nil
}

// forgetKept forgets whose an address was, if anybody's.
func (t *Tx) forgetKept(network string, addr netip.Addr) error {
	key := leaseKey(network, addr)
	k, ok := parseKept(t.bucket(keptBucket).Get(key))
	if !ok {
		return nil
	}
	for _, gone := range []struct{ bucket, key []byte }{
		{keptBucket, key}, {keeperBucket, keeperKey(network, k.who)}, {keptAgeBucket, ageKey(network, k.set, k.seq)},
	} {
		if err := t.bucket(gone.bucket).Delete(gone.key); err != nil {
			return err
		}
	}
	if err := t.setBit(keptBlockBucket, network, addr, false); err != nil {
		return err
	}
	_, err := t.countKept(network, k.set, -1)
	return err
}

// countKept changes the number of addresses of a range set that are kept, and returns it.
func (t *Tx) countKept(network string, set uint16, by int) (int, error) {
	b, key := t.bucket(keptAgeBucket), ageKey(network, set, 0)
	n := by
	if v := b.Get(key); len(v) == 4 {
		n += int(binary.BigEndian.Uint32(v))
	}
	if n <= 0 {
		return 0, b.Delete(key)
	}
	return n, b.Put(key, binary.BigEndian.AppendUint32(nil, uint32(n)))
}

func parseAddr16(v []byte) (netip.Addr, bool) {
	if len(v) != 16 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom16([16]byte(v)).Unmap(), true
}
