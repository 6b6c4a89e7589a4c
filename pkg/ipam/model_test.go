package ipam

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
)

// model is the policy as one would write it without a thought of its cost.
type model struct {
	c       *Config
	holder  map[netip.Addr]string
	cursors []netip.Addr
}

// free tells whether a dynamic allocation may give the address out.
func (m *model) free(addr netip.Addr, r *Range) bool {
	if _, held := m.holder[addr]; held {
		return false
	}
	for _, p := range r.Exclude {
		if p.Contains(addr) {
			return false
		}
	}
	return m.sane(addr, r)
}

func (m *model) sane(addr netip.Addr, r *Range) bool {
	for _, set := range m.c.Ranges {
		for _, o := range set {
			if addr == o.Gateway {
				return false
			}
		}
	}
	return addr != r.Subnet.Masked().Addr() && (addr.Is6() || r.Subnet.Contains(addr.Next()))
}

// next walks the set's addresses one by one, from behind the cursor around.
func (m *model) next(set int) (netip.Addr, bool) {
	type candidate struct {
		addr netip.Addr
		r    *Range
	}
	var all []candidate
	start := 0
	for i := range m.c.Ranges[set] {
		r := &m.c.Ranges[set][i]
		for a := r.Start; a.IsValid() && a.Compare(r.End) <= 0; a = a.Next() {
			all = append(all, candidate{a, r})
			if a == m.cursors[set] {
				start = len(all)
			}
		}
	}
	for i := range all {
		if c := all[(start+i)%len(all)]; m.free(c.addr, c.r) {
			return c.addr, true
		}
	}
	return netip.Addr{}, false
}

// allocate returns nil when it cannot be done. At most one address is requested.
func (m *model) allocate(container string, requested netip.Addr) []netip.Addr {
	got := make([]netip.Addr, len(m.c.Ranges))
	if requested.IsValid() {
		at := -1
		for i, set := range m.c.Ranges {
			for j := range set {
				if at < 0 && set[j].Subnet.Contains(requested) && m.sane(requested, &set[j]) && m.holder[requested] == "" {
					at = i
				}
			}
		}
		if at < 0 {
			return nil
		}
		got[at] = requested
	}
	cursors := slices.Clone(m.cursors)
	for i := range m.c.Ranges {
		if got[i].IsValid() {
			continue
		}
		a, ok := m.next(i)
		if !ok {
			return nil
		}
		got[i], cursors[i] = a, a
	}
	m.cursors = cursors
	for _, a := range got {
		m.holder[a] = container
	}
	return got
}

func (m *model) release(container string) {
	maps.DeleteFunc(m.holder, func(_ netip.Addr, c string) bool { return c == container })
}

var modelConfigs = []string{
	`{"subnet": "10.1.0.0/29"}`,
	`{"subnet": "10.1.0.0/28", "gateway": "10.1.0.5", "exclude": ["10.1.0.0/30", "10.1.0.9", "10.1.0.14"]}`,
	`{"ranges": [[{"subnet": "10.2.0.0/29"}, {"subnet": "10.1.0.0/28", "rangeStart": "10.1.0.9", "exclude": ["10.1.0.10/31"]}]]}`,
	`{"ranges": [[{"subnet": "10.1.0.0/22", "rangeStart": "10.1.0.252", "rangeEnd": "10.1.1.3"}], [{"subnet": "fd00::/124", "exclude": ["fd00::4/126"]}]]}`,
	`{"subnet": "fd00::fff0/124", "gateway": "fd00::fff8", "rangeEnd": "fd00::fffc"}`,
}

// FuzzAllocate plays attachments, releases and requests against the model, with a
// real store. Each byte is one operation: two bits say which, six on what.
func FuzzAllocate(f *testing.F) {
	f.Add(byte(0), []byte("\x01\x02\x03\x04\x05\x06\x07\x41\x08\x82\x83\xc0\xc7\xc3"))
	f.Add(byte(1), []byte("\x01\x02\x81\x03\x04\x8e\x41\x42\x05\x06\x07\x08\x09\x0a\x44\x0b"))
	f.Add(byte(2), []byte("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x41\x44\x01\x04\xc1\xc2\xc3\xcf"))
	f.Add(byte(3), []byte("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x41\x44\x01\x04\xff\xc4\x84\xbf"))
	f.Add(byte(4), []byte("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x41\x10\x42\x43\x8f\x9f"))
	f.Fuzz(func(t *testing.T, which byte, ops []byte) {
		c := parse(t, modelConfigs[int(which)%len(modelConfigs)])
		s := store(t)
		m := &model{c: c, holder: map[netip.Addr]string{}, cursors: make([]netip.Addr, len(c.Ranges))}
		for _, op := range ops[:min(len(ops), 60)] {
			play(t, s, m, op)
		}
	})
}

func play(t *testing.T, s *attach.Store, m *model, op byte) {
	container := fmt.Sprintf("c%d", op&0x1f)
	_, err := s.Get(context.Background(), key(container))
	attached := err == nil
	var requested netip.Addr
	switch op >> 6 {
	case 0: // attach
	case 1:
		if attached {
			del(t, s, container)
			m.release(container)
		}
		return
	default: // attach with an address of the first or the last range
		set := m.c.Ranges[(op>>5&1)*byte(len(m.c.Ranges)-1)]
		requested = set[len(set)-1].Subnet.Addr()
		for range op & 0x1f {
			if n := requested.Next(); n.IsValid() {
				requested = n
			}
		}
	}
	if attached {
		if _, err := add(s, m.c, container); !errors.Is(err, attach.ErrExists) {
			t.Fatalf("second ADD: %v", err)
		}
		return
	}
	var ask []netip.Addr
	if requested.IsValid() {
		ask = append(ask, requested)
	}
	got, err := add(s, m.c, container, ask...)
	want := m.allocate(container, requested)
	var addrs []netip.Addr
	if err == nil {
		for _, a := range got {
			addrs = append(addrs, a.Prefix.Addr())
		}
	}
	if !reflect.DeepEqual(addrs, want) {
		t.Fatalf("op %#x, %s, requested %v: got %v (%v), want %v", op, container, ask, addrs, err, want)
	}
}
