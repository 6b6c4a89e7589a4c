package attach

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// many is a store with attachments of two networks: enough for pages of every kind.
func many(t testing.TB, n int) (s *Store, all []*Attachment) {
	t.Helper()
	s = New(t.TempDir(), decodeFile)
	err := s.Update(t.Context(), func(tx *Tx) error {
		for i := range n {
			a := &Attachment{Key: Key{Network: fmt.Sprintf("net%d", i%2), Container: fmt.Sprintf("c%03d", i), IfName: "eth0"}, Plugin: "bridge",
				Args: map[string]string{"K8S_POD_NAME": strings.Repeat("pod", 20)}}
			a.Leases = []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i % 2), byte(i / 250), byte(i % 250)})}
			a.Ports = []Port{{HostPort: uint16(10000 + i), ContainerPort: 80, Protocol: "tcp"}}
			all = append(all, a)
			if err := tx.putAgain(a, &Outcome{}); err != nil {
				return err
			}
		}
		return tx.PutNetwork(Network{Name: "net0", Plugin: "bridge", Link: "br0"})
	})
	if err != nil {
		t.Fatal(err)
	}
	// What was deleted is still in pages that nothing uses.
	if err := s.Del(t.Context(), all[n-1].Key); err != nil {
		t.Fatal(err)
	}
	return s, all[:n-1]
}

// took is [Rebuild] with all that can be read.
func took(f *Salvage) (*Rebuilt, error) {
	r := &Rebuilt{}
	for _, a := range f.Loose {
		if !slices.ContainsFunc(r.Records, func(b *Attachment) bool { return a.Key == b.Key }) {
			r.Records = append(r.Records, a)
		}
	}
	return r, nil
}

// TestRebuild: whatever becomes of the file, it can be made again, with most of what was
// in it, and without anything twice.
func TestRebuild(t *testing.T) {
	s, all := many(t, 60)
	path := filepath.Join(s.Dir(), "berth.db")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if f := salvage(good, decodeFile); f.Damage != nil || len(f.Records) != len(all) || len(f.Loose)+len(f.Unreadable) > 0 || len(f.Networks) != 1 {
		t.Fatalf("whole: %v, %d records, %d networks", f.Damage, len(f.Records), len(f.Networks))
	}
	random := rand.New(rand.NewPCG(5, 6))
	damaged := damages(random, good)
	for n := range 300 {
		b := slices.Clone(good)
		junk := make([]byte, 1+random.IntN(300))
		for i := range junk {
			junk[i] = byte(random.Uint32())
		}
		copy(b[random.IntN(len(b)):], junk)
		damaged[fmt.Sprintf("junk %d", n)] = b
	}
	for name, data := range damaged {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		verified := s.Verify(t.Context())
		out, err := s.Rebuild(t.Context(), took)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if errors.Is(verified, ErrDamaged) {
			kept, err := os.ReadFile(out.Kept)
			if err != nil || !slices.Equal(kept, data) {
				t.Errorf("%s: what was damaged is not kept in %q: %v", name, out.Kept, err)
			}
			os.Remove(out.Kept)
		} else if verified != nil {
			t.Errorf("%s: %v", name, verified)
		}
		consistent(t, s)
		list, err := s.List(t.Context(), "")
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		least := len(all) - 30 // what is on one page
		if len(data) < len(good) || name == "garbage" || name == "zeros" {
			least = 0
		}
		if len(list) < least || len(list) > len(all)+1 {
			t.Errorf("%s: %d records", name, len(list))
		}
	}
}

// TestRebuildAgain: who is killed while the file is made again leaves the damaged one, or
// the new one; the next one keeps it once.
func TestRebuildAgain(t *testing.T) {
	s, _ := many(t, 5)
	path := filepath.Join(s.Dir(), "berth.db")
	if err := os.Truncate(path, 5000); err != nil {
		t.Fatal(err)
	}
	if _, err := s.keep(); err != nil { // as far as the killed one came
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Rebuild(t.Context(), took); err != nil {
		t.Fatal(err)
	}
	kept, err := filepath.Glob(path + ".*")
	if err != nil || len(kept) != 1 {
		t.Errorf("%q, %v", kept, err)
	}
	consistent(t, s)
}

// TestRebuildRefuses: of two records with one address and port, the first keeps them.
func TestRebuildRefuses(t *testing.T) {
	s, all := many(t, 3)
	late := *all[0]
	late.Container = "late"
	late.Leases = append(late.Leases, netip.MustParseAddr("10.9.9.9"))
	out, err := s.Rebuild(t.Context(), func(*Salvage) (*Rebuilt, error) { return &Rebuilt{Records: []*Attachment{&late}}, nil })
	if err != nil || len(out.Refused) != 2 || out.Kept != "" {
		t.Fatalf("%+v, %v", out, err)
	}
	a, err := s.Get(t.Context(), late.Key)
	if err != nil || len(a.Leases) != 1 || len(a.Ports) != 0 {
		t.Errorf("%+v, %v", a, err)
	}
	consistent(t, s)
}

// TestLost: a record that stands for a key nobody knows is found, and deleted, by who
// knows it.
func TestLost(t *testing.T) {
	s, _ := many(t, 2)
	k := Key{Network: "net0", Container: "unknown", IfName: "eth0"}
	lost := &Attachment{Key: Key{Network: "net0", Container: k.Hash(), Role: Lost}, Plugin: "bridge",
		Leases: []netip.Addr{netip.MustParseAddr("10.0.0.99")}, Ports: []Port{{HostPort: 9999, ContainerPort: 80, Protocol: "tcp"}}}
	if lost.HostIfName() != k.HostIfName() {
		t.Fatalf("%s is not %s", lost.HostIfName(), k.HostIfName())
	}
	if _, err := s.Rebuild(t.Context(), func(*Salvage) (*Rebuilt, error) { return &Rebuilt{Records: []*Attachment{lost}}, nil }); err != nil {
		t.Fatal(err)
	}
	if a, err := s.Get(t.Context(), k); err != nil || a.Key != lost.Key {
		t.Fatalf("%v, %v", a, err)
	}
	if err := s.Del(t.Context(), Key{Network: "net0", Container: "another", IfName: "eth0"}); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if err := s.Del(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	if err := s.Del(t.Context(), k); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	err := s.View(t.Context(), func(tx *Tx) error {
		if holder, ok := tx.Holder("net0", lost.Leases[0]); ok {
			t.Errorf("the address is still held by %s", holder)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	consistent(t, s)
}

// TestRebuildWaits: nobody adds or deletes meanwhile.
func TestRebuildWaits(t *testing.T) {
	s, all := many(t, 3)
	done := make(chan error, 1)
	_, err := s.Rebuild(t.Context(), func(*Salvage) (*Rebuilt, error) {
		go func() { done <- s.Del(t.Context(), all[0].Key) }()
		if unlock, err := s.lockIdle(t.Context(), all[0].Key); !errors.Is(err, ErrBusy) {
			t.Errorf("locked: %v", err)
			unlock()
		}
		select {
		case err := <-done:
			t.Errorf("deleted meanwhile: %v", err)
		default:
		}
		return &Rebuilt{}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func FuzzSalvage(f *testing.F) {
	s, _ := many(f, 30)
	good, err := os.ReadFile(filepath.Join(s.Dir(), "berth.db"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(0), []byte("x"), uint32(0))
	f.Add(uint32(4096), []byte{0xff, 0xff, 0xff, 0xff}, uint32(5000))
	f.Fuzz(func(t *testing.T, at uint32, junk []byte, n uint32) {
		b := slices.Clone(good)
		copy(b[int(at)%len(b):], junk)
		if n > 0 {
			b = b[:int(n)%len(b)]
		}
		for _, data := range [][]byte{b, junk} {
			found := salvage(data, decodeFile)
			for _, a := range append(found.Records, found.Loose...) {
				if a.Key == (Key{}) {
					t.Error("a record of nobody")
				}
			}
		}
	})
}
