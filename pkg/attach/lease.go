package attach

import (
	"bytes"
	"math/bits"
	"net/netip"

	"go.etcd.io/bbolt"
)

// Leases are kept twice: by address, to say who holds one, and as a bitmap for
// each block of 256 addresses, to find a free one without reading every lease. A
// range with n leases is searched in n/256 reads at worst.

const (
	blockBits = 8
	blockLen  = 1 << blockBits / 8 // bytes of a block's bitmap
)

func leaseKey(network string, addr netip.Addr) []byte {
	a := addr.As16()
	return append([]byte(network+"\x00"), a[:]...)
}

// blockKey is the key of the address's block, and bit the address's place in it.
func blockKey(network string, addr netip.Addr) (key []byte, bit int) {
	a := addr.As16()
	bit = int(a[15])
	a[15] = 0
	return append([]byte(network+"\x00"), a[:]...), bit
}

// Holder returns who holds a lease of the address on the network.
func (t *Tx) Holder(network string, addr netip.Addr) (Key, bool) {
	v := t.bucket(leaseBucket).Get(leaseKey(network, addr))
	if v == nil {
		return Key{}, false
	}
	return parseKey(v), true
}

// Lease gives the address to an attachment on the attachment's network. A
// [*HeldError] when it is taken.
func (t *Tx) Lease(addr netip.Addr, k Key) error {
	if holder, ok := t.Holder(k.Network, addr); ok {
		return &HeldError{"address " + addr.String(), holder}
	}
	if err := t.bucket(leaseBucket).Put(leaseKey(k.Network, addr), k.bytes()); err != nil {
		return err
	}
	if err := t.setBit(usedBucket, k.Network, addr, true); err != nil {
		return err
	}
	return t.forgetKept(k.Network, addr)
}

// release ends the lease if it is k's.
func (t *Tx) release(network string, addr netip.Addr, k Key) (released bool, err error) {
	key := leaseKey(network, addr)
	if !bytes.Equal(t.bucket(leaseBucket).Get(key), k.bytes()) {
		return false, nil
	}
	if err := t.bucket(leaseBucket).Delete(key); err != nil {
		return false, err
	}
	return true, t.setBit(usedBucket, network, addr, false)
}

// setBit changes the address's place in a bucket of bitmaps.
func (t *Tx) setBit(bucket []byte, network string, addr netip.Addr, used bool) error {
	key, bit := blockKey(network, addr)
	b := t.bucket(bucket)
	block := make([]byte, blockLen) // bbolt's own bytes must not be written
	copy(block, b.Get(key))
	if used {
		block[bit/8] |= 1 << (bit % 8)
	} else {
		block[bit/8] &^= 1 << (bit % 8)
	}
	if bytes.Equal(block, make([]byte, blockLen)) {
		return b.Delete(key)
	}
	return b.Put(key, block)
}

// FirstFree returns the lowest address in [from, to] that nobody leases on the
// network. Both must be of one family.
func (t *Tx) FirstFree(network string, from, to netip.Addr) (netip.Addr, bool) {
	return t.firstFree(network, from, to, usedBucket)
}

// firstFree returns the lowest address in [from, to] that has no bit in any of some buckets of
// bitmaps.
func (t *Tx) firstFree(network string, from, to netip.Addr, in ...[]byte) (netip.Addr, bool) {
	want, bit := blockKey(network, from)
	all := make([]blockCursor, len(in))
	for i, bucket := range in {
		all[i].Cursor = t.bucket(bucket).Cursor()
		all[i].key, all[i].block = all[i].Seek(want)
	}
	for addr := from; ; {
		var block [blockLen]byte
		for i := range all {
			for j, used := range all[i].at(want) {
				block[j] |= used
			}
		}
		if free := firstZero(block[:], bit); free < 1<<blockBits {
			addr = withLastByte(addr, byte(free))
			return addr, addr.Compare(to) <= 0
		}
		addr = withLastByte(addr, 0xff).Next() // the next block
		if !addr.IsValid() || addr.Compare(to) > 0 {
			return netip.Addr{}, false
		}
		want, bit = blockKey(network, addr)
	}
}

// blockCursor goes through a bucket of bitmaps.
type blockCursor struct {
	*bbolt.Cursor
	key, block []byte
}

// at returns the bitmap of a block, which is not before the last one that was asked for; nil
// when there is none, since the block is empty.
func (c *blockCursor) at(want []byte) []byte {
	for c.key != nil && bytes.Compare(c.key, want) < 0 {
		c.key, c.block = c.Next()
	}
	if !bytes.Equal(c.key, want) || len(c.block) != blockLen {
		return nil
	}
	return c.block
}

// Leased counts the addresses of a prefix that are leased on the network. It reads
// one bitmap for each 256 addresses around a lease.
func (t *Tx) Leased(network string, prefix netip.Prefix) int {
	first, _ := blockKey(network, prefix.Masked().Addr())
	c := t.bucket(usedBucket).Cursor()
	count := 0
	for key, block := c.Seek(first); len(key) == len(first) && bytes.HasPrefix(key, []byte(network+"\x00")); key, block = c.Next() {
		base := netip.AddrFrom16([16]byte(key[len(key)-16:]))
		if prefix.Addr().Is4() {
			base = base.Unmap()
		}
		if base.Is4() != prefix.Addr().Is4() || base.Compare(prefix.Addr()) > 0 && !prefix.Contains(base) {
			break
		}
		for i := range block {
			for rest := block[i]; rest != 0; rest &= rest - 1 {
				if prefix.Contains(withLastByte(base, byte(i*8+bits.TrailingZeros8(rest)))) {
					count++
				}
			}
		}
	}
	return count
}

// firstZero returns the first bit from start on that is not set; 256 when all are.
func firstZero(block []byte, start int) int {
	for i := start / 8; i < len(block); i++ {
		used := block[i]
		if i == start/8 {
			used |= 1<<(start%8) - 1
		}
		if used != 0xff {
			return i*8 + bits.TrailingZeros8(^used)
		}
	}
	return 1 << blockBits
}

func withLastByte(addr netip.Addr, b byte) netip.Addr {
	if addr.Is4() {
		a := addr.As4()
		a[3] = b
		return netip.AddrFrom4(a)
	}
	a := addr.As16()
	a[15] = b
	return netip.AddrFrom16(a)
}

func cursorKey(network, pool string) []byte { return []byte(network + "\x00" + pool) }

// Cursor returns the address that was leased last from a pool of the network;
// the zero Addr when none was.
func (t *Tx) Cursor(network, pool string) netip.Addr {
	var addr netip.Addr
	if v := t.bucket(cursorBucket).Get(cursorKey(network, pool)); v != nil {
		_ = addr.UnmarshalBinary(v) // what cannot be read is as good as none
	}
	return addr
}

// SetCursor remembers the address that was leased last from a pool.
func (t *Tx) SetCursor(network, pool string, addr netip.Addr) error {
	v, err := addr.MarshalBinary()
	if err != nil {
		return err
	}
	return t.bucket(cursorBucket).Put(cursorKey(network, pool), v)
}
