package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
)

// bursts measures how many containers a second a host takes, several in flight.
func bursts(contestants []*contestant, p plan) error {
	for round := range p.Bursts {
		for _, c := range contestants {
			if c.slow && round > 0 {
				continue
			}
			progress("burst %d: %s", round+1, c.Name)
			a, err := c.arena()
			if err != nil {
				return fmt.Errorf("%s: %w", c.Name, err)
			}
			// The first of a network makes what is shared.
			if _, err := a.burst(0, 1, 1); err != nil {
				return fmt.Errorf("%s: %w", c.Name, err)
			}
			took, err := a.burst(1, p.Burst, p.Flight)
			c.Failures += int(a.failures.Load())
			a.host.Close()
			if err != nil {
				return fmt.Errorf("%s: %w", c.Name, err)
			}
			c.PerSecond = append(c.PerSecond, float64(p.Burst)/took.Seconds())
			settle()
		}
	}
	return nil
}

// burst attaches the containers from number first on, and takes the time. Their
// namespaces are made before.
func (a *arena) burst(first, count, flight int) (time.Duration, error) {
	type job struct {
		n int
		c *sandbox.Container
	}
	jobs := make(chan job, count)
	for n := first; n < first+count; n++ {
		c, err := a.container(n)
		if err != nil {
			return 0, err
		}
		jobs <- job{n, c}
	}
	close(jobs)
	errs := make([]error, flight)
	var ready, done sync.WaitGroup
	ready.Add(flight)
	begin := make(chan struct{})
	for i := range flight {
		done.Go(func() {
			errs[i] = a.host.Do(func() error {
				ready.Done()
				<-begin
				for j := range jobs {
					if err := a.insist(j.n, j.c); err != nil {
						return fmt.Errorf("ADD %s: %w", j.c.ID, err)
					}
				}
				return nil
			})
		})
	}
	ready.Wait()
	start := time.Now()
	close(begin)
	done.Wait()
	took := time.Since(start)
	a.attached += count
	return took, errors.Join(errs...)
}

// insist attaches one container, and tries again where several callers may fail: the
// reference does now and then when its chains are made twice. Failures are counted.
func (a *arena) insist(n int, c *sandbox.Container) error {
	err := a.add(n, c)
	for try := 0; err != nil && a.forgiving && try < 5; try++ {
		a.failures.Add(1)
		_ = a.del(n, c) // the next ADD tells
		err = a.add(n, c)
	}
	return err
}

// settle lets the kernel take down the namespaces of a host that was let go.
func settle() { time.Sleep(1500 * time.Millisecond) }
