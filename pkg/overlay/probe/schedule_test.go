package probe

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// play runs a schedule for a time on a clock of its own, where a probe takes no
// time, and returns when each target was asked.
func play(s *Schedule[int], start time.Time, length time.Duration, good func(k int, now time.Time) bool) map[int][]time.Time {
	asked := map[int][]time.Time{}
	for now := start; now.Before(start.Add(length)); {
		e, wait := s.next(now)
		if e == nil {
			now = now.Add(max(wait, time.Microsecond))
			continue
		}
		asked[e.key] = append(asked[e.key], now)
		s.done(e, good(e.key, now), now)
	}
	return asked
}

func TestScheduleBounds(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	for _, test := range []struct {
		name string
		n    int
		good func(k int, now time.Time) bool
	}{
		{"few, well", 3, func(int, time.Time) bool { return true }},
		{"few, dead", 3, func(int, time.Time) bool { return false }},
		{"at the edge", 120, func(int, time.Time) bool { return true }},
		{"many, well", 2000, func(int, time.Time) bool { return true }},
		{"many, dead", 2000, func(int, time.Time) bool { return false }},
		{"many, half dead", 2000, func(k int, _ time.Time) bool { return k%2 == 0 }},
		{"many, coming and going", 2000, func(k int, now time.Time) bool { return now.Unix()/60%2 == 0 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			const rate = 10
			s := NewSchedule[int](rate)
			for k := range test.n {
				s.add(k, start)
			}
			length := 30 * time.Minute
			asked := play(s, start, length, test.good)
			if len(asked) != test.n {
				t.Fatalf("%d of %d targets were asked", len(asked), test.n)
			}
			bound := max(15*time.Second, time.Duration(test.n)*time.Second/rate*5/4)
			total := 0
			var worst time.Duration
			for _, times := range asked {
				last := start
				for _, at := range append(times, start.Add(length)) {
					worst = max(worst, at.Sub(last))
					last = at
				}
				total += len(times)
			}
			// One turn of grace for the new ones that come before.
			if worst > bound+bound/50+time.Second {
				t.Errorf("a target waited %s, want at most %s", worst, bound)
			}
			if most := int(length.Seconds()*rate) + rate; total > most {
				t.Errorf("%d probes in %s, want at most %d", total, length, most)
			}
			t.Logf("longest wait %s of %s, %.1f probes a second", worst, bound, float64(total)/length.Seconds())
		})
	}
}

func TestScheduleBackoff(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	s := NewSchedule[int](10)
	s.add(1, start)
	times := play(s, start, 2*time.Minute, func(int, time.Time) bool { return false })[1]
	if first := times[0].Sub(start); first > time.Second {
		t.Errorf("new target waited %s", first)
	}
	for i, at := range times[1:] {
		want := min(firstBackoff<<i, regularPeriod)
		if gap := at.Sub(times[i]); gap > want || gap < want/2 {
			t.Errorf("try %d came after %s, want at most %s and half of that at least", i+1, gap, want)
		}
	}
	// It comes back: the next failure is followed up at once again.
	e := s.entries[1]
	if e.fails < 5 {
		t.Errorf("%d failures, want all of them counted", e.fails)
	}
	now := start.Add(time.Hour)
	e, _ = s.next(now)
	s.done(e, true, now)
	if s.soon.Len() != 0 || e.fails != 0 {
		t.Error("good target is still followed up")
	}
	s.hurry(1, now)
	if e, _ := s.next(now.Add(s.interval)); e == nil {
		t.Error("hurried target has to wait")
	} else {
		s.hurry(1, now) // while it is being asked
		s.done(e, true, now.Add(s.interval))
	}
	if e, _ := s.next(now.Add(3 * s.interval)); e == nil {
		t.Error("target hurried while busy has to wait")
	}
}

func TestScheduleRemove(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	s := NewSchedule[int](1000)
	for k := range 100 {
		s.add(k, now)
		s.add(k, now) // again is nothing
	}
	e, _ := s.next(now.Add(time.Second))
	for k := range 100 {
		if k%3 == 0 || k == e.key {
			s.Remove(k)
			s.Remove(k)
		}
	}
	s.done(e, true, now)
	asked := play(s, now.Add(time.Second), time.Minute, func(int, time.Time) bool { return true })
	for k := range 100 {
		if gone := k%3 == 0 || k == e.key; gone != (len(asked[k]) == 0) {
			t.Errorf("target %d, removed %t, was asked %d times", k, gone, len(asked[k]))
		}
	}
	if s.regular.Len() != len(s.entries) || s.soon.Len() > len(s.entries) {
		t.Errorf("%d and %d queued of %d", s.regular.Len(), s.soon.Len(), len(s.entries))
	}
}

func TestScheduleRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s := NewSchedule[string](10)
		var a, b atomic.Int32
		go func() {
			time.Sleep(30 * time.Second)
			s.Add("b") // wakes
		}()
		s.Add("a")
		s.Run(ctx, func(_ context.Context, k string) bool {
			time.Sleep(3 * time.Second)
			if k == "a" {
				return a.Add(1) > 0
			}
			return b.Add(1) < 0
		})
		if a, b := a.Load(), b.Load(); a < 4 || a > 6 || b < 4 || b > 7 {
			t.Errorf("asked a, which is well, %d times in 60 s, b, which is not, %d times in 30 s", a, b)
		}
	})
}
