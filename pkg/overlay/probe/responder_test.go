package probe

import (
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"
)

// TestResponderIgnores: what is not a question of a peer gets no answer.
func TestResponderIgnores(t *testing.T) {
	t.Parallel()
	a, b := pair(t, underlay{})
	b.listen(t)
	a.ip(t, "addr add 10.42.1.7/32 dev vxlan42") // a container's, say: not known as a peer
	good := message{kind: question, size: messageSize, vni: testVNI, nonce: 1}
	foreign := good
	foreign.vni++
	back := good
	back.kind = answer
	for _, test := range []struct {
		name     string
		local    netip.Addr
		b        []byte
		answered bool
	}{
		{"question", a.inner[0], good.encode(), true},
		{"of a stranger", netip.MustParseAddr("10.42.1.7"), good.encode(), false},
		{"of another network", a.inner[0], foreign.encode(), false},
		{"answer", a.inner[0], back.encode(), false},
		{"too short", a.inner[0], good.encode()[:19], false},
		{"nothing at all", a.inner[0], nil, false},
	} {
		a.in(t, func() {
			s, err := dial(t.Context(), test.local, netip.AddrPortFrom(b.inner[0], Port), "vxlan42")
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, err := s.Write(test.b); err != nil {
				t.Fatal(err)
			}
			s.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			buf := make([]byte, 100)
			n, err := s.Read(buf)
			if test.answered && (err != nil || n != messageSize) || !test.answered && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: answer of %d bytes, %v; want one: %t", test.name, n, err, test.answered)
			}
		})
	}
}

func TestBucket(t *testing.T) {
	t.Parallel()
	var b bucket
	now := time.Unix(1_000_000, 0)
	start := now
	for range 5 * answerRate {
		now = now.Add(b.take(now))
	}
	if took := now.Sub(start); took < 4800*time.Millisecond || took > 5*time.Second {
		t.Errorf("five seconds' worth of tokens took %s", took)
	}
	if wait := b.take(now.Add(time.Minute)); wait != 0 {
		t.Errorf("after a rest the first waits %s", wait)
	}
}

// TestResponderRate floods a responder.
func TestResponderRate(t *testing.T) {
	t.Parallel()
	a, b := pair(t, underlay{})
	b.listen(t)
	a.in(t, func() {
		s, err := dial(t.Context(), a.inner[0], netip.AddrPortFrom(b.inner[0], Port), "vxlan42")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		q := message{kind: question, size: messageSize, vni: testVNI, nonce: 1}.encode()
		answers := make(chan int)
		go func() {
			n := 0
			for buf := make([]byte, 100); ; n++ {
				if _, err := s.Read(buf); err != nil {
					answers <- n
					return
				}
			}
		}()
		const length = 400 * time.Millisecond
		for start := time.Now(); time.Since(start) < length; {
			for range 10 {
				s.Write(q)
			}
			time.Sleep(time.Millisecond) // some 10,000 a second
		}
		s.SetReadDeadline(time.Now())
		// A tenth of a second's worth was saved up.
		if n := <-answers; n < answerRate/10 || n > answerRate*7/10 {
			t.Errorf("%d answers in %s", n, length)
		}
	})
}
