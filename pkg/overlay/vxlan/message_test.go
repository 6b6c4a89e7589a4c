package vxlan

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBatch(t *testing.T) {
	var b batch
	b.add(request{verb: "first"}, 1, 2, 0xaa, 0xbb, 0xcc, 0xdd)
	b.attr(5, []byte{1, 2, 3, 4, 5})
	b.nest(6, func() { b.uint32(7, 8) })
	b.finish()
	b.add(request{verb: "second"}, 3, 4)
	b.finish()
	var kinds []uint16
	for m := range messages(b.buf) {
		kinds = append(kinds, m.kind)
		if m.kind != 1 {
			continue
		}
		if m.flags != 2|unix.NLM_F_REQUEST || !bytes.HasPrefix(m.body, []byte{0xaa, 0xbb, 0xcc, 0xdd}) {
			t.Errorf("message %+v", m)
		}
		seen := 0
		for kind, value := range attributes(m.body[4:]) {
			switch kind {
			case 5:
				seen++
				if !bytes.Equal(value, []byte{1, 2, 3, 4, 5}) {
					t.Errorf("attribute 5 is %v", value)
				}
			case 6:
				for kind, value := range attributes(value) {
					seen++
					if kind != 7 || uint32Of(value) != 8 {
						t.Errorf("nested attribute %d is %v", kind, value)
					}
				}
			}
		}
		if seen != 2 {
			t.Errorf("%d attributes, want 2", seen)
		}
	}
	if len(kinds) != 2 || kinds[0] != 1 || kinds[1] != 3 {
		t.Errorf("messages of kinds %v, want 1 and 3", kinds)
	}
}

// No answer, however broken, is more than an answer that is not understood.
func FuzzDecode(f *testing.F) {
	var b batch
	b.putFDB(1, mac{2}, remote{underlay: node{id: 2}.underlay()}, "")
	b.putNeighbour(1, node{id: 2}.inner6(), mac{2}, "")
	b.putRoute(1, node{id: 2}.peer().Blocks[1], hop{via: node{id: 2}.inner6(), mtu: 1300}, "")
	b.putAddress(1, node{id: 2}.inner4())
	f.Add(b.buf)
	f.Fuzz(func(t *testing.T, data []byte) {
		p := &Plane{index: 1, told: true}
		for m := range messages(data) {
			parseFDB(m.body)
			parseNeighbour(m.body)
			parseAddress(m.body)
			if r, ok := parseRoute(m.body); ok && !r.dst.IsValid() {
				t.Errorf("route to %v", r.dst)
			}
			if l, ok := parseLink(unix.RTM_NEWLINK, m.body); ok {
				l.changeable(&p.device)
			}
			p.routeEvent(m)
			p.addressEvent(m)
			var r refusals
			r.add(request{}, m)
			_ = r.err()
		}
	})
}
