package main

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
)

// sampled holds the times of one contestant at one population, in milliseconds.
type sampled struct {
	Add   times `json:"add"`
	Check times `json:"check,omitempty"`
	Del   times `json:"del"`
}

type times []float64

func (t *times) took(d time.Duration) { *t = append(*t, float64(d.Microseconds())/1000) }

// quantile of the sorted times, q from 0 to 1; 0 when there are none.
func (t times) quantile(q float64) float64 {
	if len(t) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(t))
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

func (t times) median() float64 { return t.quantile(0.5) }

// sampleNumber is the number of the container that is added and deleted again and
// again. Its namespace stays: the kernel's cleaning up after one would be noise.
const sampleNumber = 2000

// samples fills every contestant's host step by step, and samples the three verbs
// at each population.
func samples(contestants []*contestant, p plan) error {
	arenas := map[*contestant]*arena{}
	subject := map[*contestant]*sandbox.Container{}
	for _, c := range contestants {
		a, err := c.arena()
		if err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		defer a.host.Close()
		arenas[c] = a
		if subject[c], err = a.container(sampleNumber); err != nil {
			return err
		}
		// The first of a network makes what is shared.
		for range 3 {
			if err := c.round(a, subject[c], &sampled{}); err != nil {
				return err
			}
		}
	}
	deadline := p.Fill
	for _, population := range p.Populations {
		progress("fill to %d containers", population)
		start := time.Now()
		if err := fillAll(contestants, arenas, population, deadline); err != nil {
			return err
		}
		deadline -= time.Since(start)
		progress("sample at %d containers", population)
		for i := range max(p.Rounds, p.SlowRounds) {
			for j := range contestants {
				c := contestants[(i+j)%len(contestants)]
				if arenas[c].attached != population || c.slow && i >= p.SlowRounds || i >= p.Rounds {
					continue
				}
				if c.Samples[population] == nil {
					c.Samples[population] = &sampled{}
				}
				if err := c.round(arenas[c], subject[c], c.Samples[population]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// round samples each verb once.
func (c *contestant) round(a *arena, subject *sandbox.Container, s *sampled) error {
	for _, step := range []struct {
		name string
		verb verb
		into *times
	}{{"ADD", a.add, &s.Add}, {"CHECK", a.check, &s.Check}, {"DEL", a.del, &s.Del}} {
		if step.verb == nil {
			continue
		}
		took, err := a.timed(step.verb, sampleNumber, subject)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", c.Name, step.name, err)
		}
		step.into.took(took)
		time.Sleep(3 * time.Millisecond) // what the kernel put off
	}
	return nil
}

// fillAll attaches containers until all hosts have as many. The slow contestants
// stop when the time is over.
func fillAll(contestants []*contestant, arenas map[*contestant]*arena, population int, limit time.Duration) error {
	var slow sync.WaitGroup
	errs := make(chan error, len(contestants))
	for _, c := range contestants {
		fill := func() {
			errs <- arenas[c].fill(c, population, limit)
		}
		if c.slow {
			slow.Go(fill)
		} else {
			fill()
		}
	}
	slow.Wait()
	for range contestants {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

// fill attaches containers, several at a time, until so many are.
func (a *arena) fill(c *contestant, population int, limit time.Duration) error {
	start := time.Now()
	for a.attached < population && c.Stopped == 0 {
		if c.slow && time.Since(start) > limit {
			c.Stopped = a.attached
			break
		}
		if _, err := a.burst(a.attached, min(8, population-a.attached), 4); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return nil
}
