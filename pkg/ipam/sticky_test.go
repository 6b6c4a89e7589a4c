package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/steptest"
)

// addNamed attaches a container with a name, as a main plugin does.
func addNamed(s *attach.Store, c *Config, container, name string, requested ...netip.Addr) (string, error) {
	a := &attach.Attachment{Key: key(container), Steps: []attach.Step{&Lease{Conf: c, Sticky: name, Wanted: requested}}}
	err := s.Add(context.Background(), &attach.Adding{Attachment: a})
	var got []string
	for _, addr := range a.Addresses {
		got = append(got, addr.Prefix.Addr().String())
	}
	return strings.Join(got, " "), err
}

func TestSticky(t *testing.T) {
	// Each line is one operation: +CONTAINER NAME [ASKED] = what it gets, or -CONTAINER.
	for name, c := range map[string]struct{ conf, ops string }{
		"comes back": {`{"subnet": "10.1.0.0/28", "sticky": "name"}`, `
			+c1 web = 10.1.0.2
			+c2 db = 10.1.0.3
			-c1
			-c2
			+c3 other = 10.1.0.4
			+c4 db = 10.1.0.3
			+c5 web = 10.1.0.2`},
		"without a name": {`{"subnet": "10.1.0.0/29", "sticky": "name"}`, `
			+c1 web = 10.1.0.2
			-c1
			+c2 - = 10.1.0.3
			-c2
			+c3 - = 10.1.0.4
			+c4 web = 10.1.0.2`},
		"two of one name": {`{"subnet": "10.1.0.0/28", "sticky": "name"}`, `
			+c1 web = 10.1.0.2
			-c1
			+c2 web = 10.1.0.2
			+c3 web = 10.1.0.3
			-c2
			-c3
			+c4 web = 10.1.0.3
			+c5 web = 10.1.0.4`},
		"full: what has been kept longest goes first": {`{"subnet": "10.1.0.0/29", "sticky": "name"}`, `
			+c1 a = 10.1.0.2
			+c2 b = 10.1.0.3
			+c3 c = 10.1.0.4
			+c4 d = 10.1.0.5
			+c5 e = 10.1.0.6
			-c2
			-c1
			+c6 f = 10.1.0.3
			+c7 a = 10.1.0.2
			-c7
			+c8 g = 10.1.0.2
			+c9 a = full
			-c3
			+c9 a = 10.1.0.4`},
		"what is asked for wins": {`{"subnet": "10.1.0.0/28", "sticky": "name"}`, `
			+c1 web = 10.1.0.2
			-c1
			+c2 db 10.1.0.2 = 10.1.0.2
			+c3 web = 10.1.0.3
			-c3
			+c4 web 10.1.0.9 = 10.1.0.9
			-c4
			+c5 web = 10.1.0.9`},
		"two families": {`{"ranges": [[{"subnet": "10.1.0.0/28"}], [{"subnet": "fd00::/64"}]], "sticky": "pod"}`, `
			+c1 ns/web = 10.1.0.2 fd00::2
			+c2 ns/db = 10.1.0.3 fd00::3
			-c1
			+c3 x fd00::2 = 10.1.0.4 fd00::2
			+c4 ns/web = 10.1.0.2 fd00::4
			-c4
			-c2
			+c5 ns/web = 10.1.0.2 fd00::4
			+c6 ns/db = 10.1.0.3 fd00::3`},
		"not sticky": {`{"subnet": "10.1.0.0/28"}`, `
			+c1 web = 10.1.0.2
			-c1
			+c2 web = 10.1.0.3`},
	} {
		t.Run(name, func(t *testing.T) {
			s, conf := store(t), parse(t, c.conf)
			for line := range strings.Lines(c.ops) {
				f := strings.Fields(line)
				if len(f) == 0 {
					continue
				}
				if container, ok := strings.CutPrefix(f[0], "-"); ok {
					del(t, s, container)
					continue
				}
				op, want, _ := strings.Cut(strings.TrimSpace(line), " = ")
				f = strings.Fields(op)
				who := strings.TrimPrefix(f[1], "-")
				if conf.Sticky == "" {
					who = ""
				}
				var asked []netip.Addr
				for _, a := range f[2:] {
					asked = append(asked, addr(a))
				}
				got, err := addNamed(s, conf, f[0][1:], who, asked...)
				if full := (*ExhaustedError)(nil); errors.As(err, &full) {
					got = "full"
				} else if err != nil {
					t.Fatalf("%s: %v", op, err)
				}
				if got != want {
					t.Fatalf("%s: got %s, want %s", op, got, want)
				}
			}
		})
	}
}

// TestStickyRanges: an address that the configuration has no more, or excludes now, is not
// given out again.
func TestStickyRanges(t *testing.T) {
	s := store(t)
	add := func(conf, container, name, want string) {
		t.Helper()
		if got, err := addNamed(s, parse(t, conf), container, name); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", conf, got, err, want)
		}
	}
	add(`{"subnet": "10.1.0.0/29", "sticky": "name"}`, "c1", "web", "10.1.0.2")
	add(`{"subnet": "10.1.0.0/29", "sticky": "name"}`, "c2", "db", "10.1.0.3")
	del(t, s, "c1")
	del(t, s, "c2")
	add(`{"subnet": "10.1.0.0/29", "exclude": ["10.1.0.2"], "sticky": "name"}`, "c3", "web", "10.1.0.4")
	del(t, s, "c3")
	add(`{"subnet": "10.9.0.0/30", "sticky": "name"}`, "c4", "web", "10.9.0.2")
	del(t, s, "c4")
	add(`{"subnet": "10.9.0.0/30", "sticky": "name"}`, "c5", "other", "10.9.0.2")
	add(`{"subnet": "10.1.0.0/29"}`, "c6", "", "10.1.0.2") // no word for it any more: as any other
}

// nothing is a step that follows the lease.
type nothing struct{}

func (nothing) Kind() string                                    { return "nothing" }
func (nothing) Add(context.Context, *attach.Adding) error       { return nil }
func (nothing) Del(context.Context, *attach.Attachment) error   { return nil }
func (nothing) Check(context.Context, *attach.Attachment) error { return nil }

// TestStickyFault: an ADD that fails takes no address from whom it is kept for, and another
// try under its name gets what it had.
func TestStickyFault(t *testing.T) {
	const conf = `{"subnet": "10.1.0.0/29", "sticky": "name"}`
	for _, how := range steptest.Faults {
		s := store(t)
		for i, name := range []string{"web", "db"} {
			if _, err := addNamed(s, parse(t, conf), fmt.Sprint("c", i), name); err != nil {
				t.Fatal(err)
			}
		}
		del(t, s, "c0")
		del(t, s, "c1")
		for _, name := range []string{"web", "new"} {
			a := &attach.Attachment{Key: key("c2"), Steps: []attach.Step{&Lease{Conf: parse(t, conf), Sticky: name}, nothing{}}}
			steptest.Spoil(a.Steps, 1, how)
			if err := s.Add(t.Context(), &attach.Adding{Attachment: a}); err == nil || !strings.Contains(err.Error(), "fault") {
				t.Fatalf("%s: %v", how, err)
			}
		}
		for name, want := range map[string]string{"web": "10.1.0.2", "db": "10.1.0.3", "new": "10.1.0.4"} {
			if got, err := addNamed(s, parse(t, conf), "again"+name, name); err != nil || got != want {
				t.Errorf("%s, %s: %s, %v, want %s", how, name, got, err, want)
			}
		}
	}
}

func TestStickyWords(t *testing.T) {
	if c := parse(t, `{"subnet": "10.1.0.0/29", "sticky": "pod"}`); c.Sticky != StickyPod {
		t.Errorf("%+v", c)
	}
	if _, err := Parse([]byte(`{"subnet": "10.1.0.0/29", "sticky": "web"}`)); err == nil || err.Error() != `ipam.sticky: "web": want name or pod` {
		t.Errorf("got %v", err)
	}
}

// stickyModel is the policy as one would write it without a thought of its cost.
type stickyModel struct {
	spans  []netip.Addr // all that may be given out, in order
	holder map[netip.Addr]string
	named  map[string]string // container -> name
	kept   []netip.Addr      // the oldest first
	whose  map[netip.Addr]string
	cursor int
	last   bool // whether cursor counts
}

func (m *stickyModel) forget(a netip.Addr) {
	m.kept = slices.DeleteFunc(m.kept, func(b netip.Addr) bool { return a == b })
	delete(m.whose, a)
}

func (m *stickyModel) choose(name string) (netip.Addr, bool) {
	for _, a := range m.kept {
		if m.whose[a] == name && name != "" {
			return a, true
		}
	}
	start := 0
	if m.last {
		start = m.cursor + 1
	}
	for i := range m.spans {
		at := (start + i) % len(m.spans)
		a := m.spans[at]
		if m.holder[a] == "" && m.whose[a] == "" {
			m.cursor, m.last = at, true
			return a, true
		}
	}
	if len(m.kept) > 0 {
		return m.kept[0], true
	}
	return netip.Addr{}, false
}

func (m *stickyModel) add(container, name string) string {
	a, ok := m.choose(name)
	if !ok {
		return "full"
	}
	m.forget(a)
	m.holder[a], m.named[container] = container, name
	return a.String()
}

func (m *stickyModel) del(container string) {
	for a, c := range m.holder {
		if c != container {
			continue
		}
		delete(m.holder, a)
		if name := m.named[container]; name != "" {
			for _, b := range slices.Clone(m.kept) {
				if m.whose[b] == name {
					m.forget(b)
				}
			}
			m.kept, m.whose[a] = append(m.kept, a), name
		}
	}
}

// FuzzSticky plays containers that come and go under a few names against the model. Each byte
// is one: three bits of its name, four of its container, one whether it comes or goes.
func FuzzSticky(f *testing.F) {
	f.Add([]byte("\x00\x11\x22\x80\x91\x33\x05\x14\xa2\x26\x37\x48\x59\x6a\x7b\x80\x90\x11"))
	f.Add([]byte("\x01\x12\x23\x34\x45\x56\x81\x92\xa3\xb4\xc5\xd6\x57\x48\x39\x2a\x1b\x0c\x88\x0d"))
	f.Fuzz(func(t *testing.T, ops []byte) {
		s, conf := store(t), parse(t, `{"subnet": "10.1.0.0/28", "exclude": ["10.1.0.6"], "rangeEnd": "10.1.0.9", "sticky": "name"}`)
		m := &stickyModel{holder: map[netip.Addr]string{}, named: map[string]string{}, whose: map[netip.Addr]string{}}
		for a := addr("10.1.0.2"); a.Compare(addr("10.1.0.9")) <= 0; a = a.Next() {
			if a != addr("10.1.0.6") {
				m.spans = append(m.spans, a)
			}
		}
		for _, op := range ops[:min(len(ops), 60)] {
			name, container := string("\x00abcdefg"[op>>4&7]), fmt.Sprint("c", op&0xf)
			if name == "\x00" {
				name = ""
			}
			_, err := s.Get(t.Context(), key(container))
			attached := err == nil
			if op>>7 == 1 {
				if attached {
					del(t, s, container)
					m.del(container)
				}
				continue
			}
			if attached {
				continue
			}
			got, err := addNamed(s, conf, container, name)
			if full := (*ExhaustedError)(nil); errors.As(err, &full) {
				got = "full"
			} else if err != nil {
				t.Fatal(err)
			}
			if want := m.add(container, name); got != want {
				t.Fatalf("op %#x, %s as %q: got %s, want %s", op, container, name, got, want)
			}
		}
	})
}
