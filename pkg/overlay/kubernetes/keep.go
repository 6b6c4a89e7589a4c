package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// keep keeps the registration up until its context ends or the name is lost. Whoever takes
// the name away deletes the lease, or takes it; a Watch pokes for what happens to the
// node's object, and rouses when the server is back.
func (r *registration) keep(ctx context.Context) {
	stop := context.AfterFunc(r.s.ctx, r.cancel)
	defer stop()
	err := r.hold(ctx)
	if ctx.Err() != nil {
		close(r.done)
		return
	}
	r.s.mu.Lock()
	if r.s.current == r {
		r.s.mark = mark{}
	}
	r.s.mu.Unlock()
	r.gone.Store(true)
	close(r.done)
	r.lost(fmt.Errorf("node %q: %w", r.node.Name, err))
}

// hold returns when the name is lost, or the context ends: always with an error.
func (r *registration) hold(ctx context.Context) error {
	for {
		poked, err := r.rest(ctx, jitter(r.s.beat()), nil)
		if err != nil {
			return err
		}
		if poked {
			err = r.insist(ctx)
		} else {
			err = r.renew(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// renew writes the lease's time, however long that takes.
func (r *registration) renew(ctx context.Context) error {
	for failures := 0; ; failures++ {
		l := r.lease
		l.Spec.Renewed = microTime{r.s.c.Now()}
		err := r.write(ctx, l)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errRaced), client.IsNotFound(err):
			return r.insist(ctx)
		}
		r.s.o.Log.Debug("renew the lease", "node", r.node.Name, "error", err)
		if err := r.sleep(ctx, asked(err, pause(failures))); err != nil {
			return err
		}
	}
}

// rest reports whether it was poked before the time was over. It ends when it is roused,
// too.
func (r *registration) rest(ctx context.Context, d time.Duration, roused <-chan struct{}) (poked bool, err error) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.poked:
		poked = true
	case <-roused:
	case <-ctx.Done():
	}
	return poked, ctx.Err()
}

// sleep is [sleep], and returns early when a Watch has found the server again: a host
// whose registration waits for longer than its watch would count as dead meanwhile.
func (r *registration) sleep(ctx context.Context, d time.Duration) error {
	_, err := r.rest(ctx, d, r.roused)
	return err
}

// jitter is a time within a tenth of d.
func jitter(d time.Duration) time.Duration { return d*9/10 + rand.N(d/5) }
