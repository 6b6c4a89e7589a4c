package attach

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

// leaseBases are where FuzzLease leases: at the border of a block, and at the ends
// of both address spaces.
var leaseBases = []netip.Addr{
	netip.MustParseAddr("10.1.0.250"),
	netip.MustParseAddr("255.255.254.240"),
	netip.MustParseAddr("fd00::ff:fffa"),
	netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fe80"),
	netip.MustParseAddr("0.0.0.0"),
	netip.MustParseAddr("::"),
}

func plus(addr netip.Addr, n int) netip.Addr {
	for range n {
		if next := addr.Next(); next.IsValid() {
			addr = next
		}
	}
	return addr
}

// FuzzLease plays leases, releases and searches against a map. Each operation is
// three bytes.
func FuzzLease(f *testing.F) {
	f.Add(byte(0), []byte("\x00\x00\x20\x40\x00\x20\x80\x02\x00\x40\x01\x09\x80\x00\x00"))
	f.Add(byte(1), []byte("\x00\x10\xff\x80\x00\xff\x80\xff\xff\x40\xff\x01\x80\x00\xff"))
	f.Add(byte(3), []byte("\x00\x00\xff\x01\x40\xff\x80\x00\xff\x81\x80\xff\x41\x50\x01"))
	f.Add(byte(4), []byte("\x00\x00\xff\x80\x00\xff\x80\xff\x00\x03\x00\x10"))
	f.Fuzz(func(t *testing.T, which byte, ops []byte) {
		s := New(stateDir(t), decodeFile)
		err := s.Update(t.Context(), func(tx *Tx) error {
			m := leaseModel{t, tx, leaseBases[int(which)%len(leaseBases)], map[string]Key{}}
			for op := range slices.Chunk(ops[:min(len(ops), 90)/3*3], 3) {
				m.play(op[0], int(op[1]), int(op[2]))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

type leaseModel struct {
	t      *testing.T
	tx     *Tx
	base   netip.Addr
	holder map[string]Key
}

func (m *leaseModel) name(network string, addr netip.Addr) string {
	return network + " " + addr.String()
}

// play: the high bits of op say what, the low ones on which network, at and n where.
func (m *leaseModel) play(op byte, at, n int) {
	network := []string{"n", "ne", "net"}[op%3]
	k := Key{network, fmt.Sprint(op >> 2 & 3), "eth0", Main}
	from := plus(m.base, 2*at)
	switch op >> 6 {
	case 0: // lease a run
		for i := range n {
			addr := plus(from, i)
			err := m.tx.Lease(addr, k)
			holder, held := m.holder[m.name(network, addr)]
			var e *HeldError
			if held != errors.As(err, &e) || held && e.Holder != holder || !held && err != nil {
				m.t.Fatalf("lease %s: %v, held: %v", addr, err, held)
			}
			if !held {
				m.holder[m.name(network, addr)] = k
			}
		}
	case 1: // release a run, of which some may be another's
		for i := range n {
			addr := plus(from, i)
			if released, err := m.tx.release(network, addr, k); err != nil || released != (m.holder[m.name(network, addr)] == k) {
				m.t.Fatalf("release %s: %v, %v", addr, released, err)
			}
			if m.holder[m.name(network, addr)] == k {
				delete(m.holder, m.name(network, addr))
			}
		}
	default:
		to := plus(m.base, 2*n)
		got, ok := m.tx.FirstFree(network, from, to)
		want, free := m.firstFree(network, from, to)
		if ok != free || ok && got != want {
			m.t.Fatalf("FirstFree(%s, %s, %s) = %s, %v; want %s, %v", network, from, to, got, ok, want, free)
		}
	}
	holder, held := m.tx.Holder(network, from)
	if want, ok := m.holder[m.name(network, from)]; ok != held || holder != want {
		m.t.Fatalf("Holder(%s) = %v, %v, want %v", from, holder, held, want)
	}
}

func (m *leaseModel) firstFree(network string, from, to netip.Addr) (netip.Addr, bool) {
	for addr := from; addr.IsValid() && addr.Compare(to) <= 0; addr = addr.Next() {
		if _, held := m.holder[m.name(network, addr)]; !held {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

// TestFirstFreeSparse: in a range of 2^64 addresses only the blocks that have
// leases are walked.
func TestFirstFreeSparse(t *testing.T) {
	update(t, New(stateDir(t), decodeFile), func(tx *Tx) error {
		from, to := netip.MustParseAddr("fd00::"), netip.MustParseAddr("fd00::ffff:ffff:ffff:ffff")
		addr := from
		for range 3 << blockBits {
			if err := tx.Lease(addr, testKey("c")); err != nil {
				return err
			}
			addr = addr.Next()
		}
		if got, ok := tx.FirstFree("net", from, to); !ok || got != addr {
			t.Errorf("got %s, %v, want %s", got, ok, addr)
		}
		if got, ok := tx.FirstFree("net", from, netip.MustParseAddr("fd00::2ff")); ok {
			t.Errorf("got %s in a full range", got)
		}
		return nil
	})
}

// TestBitmapsEnd: a block without a lease has no bitmap either.
func TestBitmapsEnd(t *testing.T) {
	s := testStore(t)
	addr := netip.MustParseAddr("10.1.0.7")
	update(t, s, func(tx *Tx) error {
		return errors.Join(tx.Lease(addr, testKey("c")), released(tx.release("net", addr, testKey("c"))))
	})
	same(t, dump(t, s), map[string]string{})
}

func TestCursor(t *testing.T) {
	s := testStore(t)
	v4, v6 := netip.MustParseAddr("10.1.0.7"), netip.MustParseAddr("fd00::7")
	update(t, s, func(tx *Tx) error {
		if got := tx.Cursor("net", "0"); got.IsValid() {
			t.Errorf("a new store: %s", got)
		}
		return errors.Join(tx.SetCursor("net", "0", v4), tx.SetCursor("net", "1", v6), tx.SetCursor("net2", "0", v6))
	})
	update(t, s, func(tx *Tx) error {
		if a, b := tx.Cursor("net", "0"), tx.Cursor("net", "1"); a != v4 || b != v6 {
			t.Errorf("got %s and %s", a, b)
		}
		return nil
	})
}

func TestFirstZero(t *testing.T) {
	full := bytes.Repeat([]byte{0xff}, blockLen)
	for free := range 1 << blockBits {
		block := slices.Clone(full)
		block[free/8] &^= 1 << (free % 8)
		for start := range 1 << blockBits {
			want := free
			if start > free {
				want = 1 << blockBits
			}
			if got := firstZero(block, start); got != want {
				t.Fatalf("free %d, start %d: got %d", free, start, got)
			}
		}
	}
}

func update(t testing.TB, s *Store, fn func(*Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// released is the error alone.
func released(_ bool, err error) error { return err }

func TestLeased(t *testing.T) {
	undo := errors.New("undo") // leases without records are none that a store may keep
	err := testStore(t).Update(t.Context(), func(tx *Tx) error {
		for i, addr := range []string{"10.1.0.0", "10.1.0.255", "10.1.1.0", "10.1.1.7", "10.1.3.9", "fd00::1", "fd00::1:1", "fd00:0:0:1::1"} {
			if err := tx.Lease(netip.MustParseAddr(addr), Key{Network: "n", Container: fmt.Sprint(i)}); err != nil {
				return err
			}
		}
		if err := tx.Lease(netip.MustParseAddr("10.1.1.1"), Key{Network: "n2", Container: "x"}); err != nil {
			return err
		}
		for prefix, want := range map[string]int{"10.1.0.0/24": 2, "10.1.1.0/24": 2, "10.1.0.0/16": 5, "10.1.1.0/29": 2, "10.1.1.8/29": 0,
			"10.1.2.0/24": 0, "10.1.3.0/24": 1, "fd00::/64": 2, "fd00:0:0:1::/64": 1, "fd00::/48": 3, "fd01::/64": 0, "10.0.0.0/24": 0} {
			if got := tx.Leased("n", netip.MustParsePrefix(prefix)); got != want {
				t.Errorf("%s: %d leased, want %d", prefix, got, want)
			}
		}
		return undo
	})
	if !errors.Is(err, undo) {
		t.Error(err)
	}
}
