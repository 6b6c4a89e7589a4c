package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/berth-cni/berth/pkg/overlay"
)

// keep keeps the registration up until its context ends or the name is lost.
//
// The lease is what tells it of the rest: whoever takes the name away revokes it.
// A Watch pokes for what somebody does by hand, and when the store is back.
func (r *registration) keep(ctx context.Context) {
	stop := context.AfterFunc(r.s.ctx, r.cancel)
	defer stop()
	err := r.hold(ctx)
	if ctx.Err() != nil {
		close(r.done)
		return
	}
	r.s.live(life{})
	// Another's alive key does not hang on our lease.
	if revoked := r.s.revoke(ctx, r.lease); revoked != nil {
		r.s.o.Log.Info("the lease of a lost node runs out by itself", "node", r.node.Name, "error", revoked)
	}
	close(r.done)
	r.lost(fmt.Errorf("node %q: %w", r.node.Name, err))
}

// hold returns when the name is lost, or the context ends: always with an error.
func (r *registration) hold(ctx context.Context) error {
	for seen := time.Now().Add(jitter(overlay.SeenEvery)); ; {
		r.rest(ctx, time.Until(seen))
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(seen) {
			seen = time.Now().Add(jitter(overlay.SeenEvery))
		}
		if err := r.renew(ctx); err != nil {
			return err
		}
	}
}

// rest returns when there may be something to do, after most at the latest.
func (r *registration) rest(ctx context.Context, most time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	beats := r.beats(ctx)
	quiet := time.NewTimer(r.s.o.TTL / 2)
	defer quiet.Stop()
	for {
		select {
		case _, ok := <-beats:
			if !ok { // revoked, run out, or the store is away
				return
			}
			r.beaten = time.Now()
			quiet.Reset(r.s.o.TTL / 2)
		case <-quiet.C: // the keepalives hang on one member: another may do
			return
		case <-r.poked:
			return
		case <-ctx.Done():
			return
		}
	}
}

// beats delivers the answers to keepalives, and is closed when the lease is gone.
func (r *registration) beats(ctx context.Context) <-chan *clientv3.LeaseKeepAliveResponse {
	closed := make(chan *clientv3.LeaseKeepAliveResponse)
	client, err := r.s.connect(ctx)
	if err == nil {
		if beats, err := client.KeepAlive(ctx, r.lease); err == nil {
			return beats
		}
	}
	close(closed)
	return closed
}

// renew has the lease live and the keys say what they shall, however long that takes.
func (r *registration) renew(ctx context.Context) error {
	for failures := 0; ; failures++ {
		err := r.keepOnce(ctx)
		if err == nil {
			return r.insist(ctx)
		}
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			r.lease = clientv3.NoLease
			// One that has run out did so while the store was away, and with it those of
			// all hosts. One that was taken away did not.
			if time.Since(r.beaten) > r.s.o.TTL/2 {
				if err := sleep(ctx, rand.N(r.s.o.TTL/4)); err != nil {
					return err
				}
			}
			return r.insist(ctx)
		}
		if err := r.sleep(ctx, pause(failures)); err != nil {
			return err
		}
	}
}

// sleep is [sleep], and returns early when a Watch has found the store again: a host
// whose registration waits for longer than its watch would count as dead meanwhile.
func (r *registration) sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.poked:
	case <-ctx.Done():
	}
	return ctx.Err()
}

func (r *registration) keepOnce(ctx context.Context) error {
	ctx, cancel := r.s.bound(ctx, min(r.s.o.RequestTimeout, r.s.o.TTL/4))
	defer cancel()
	client, err := r.s.connect(ctx)
	if err != nil {
		return err
	}
	_, err = client.KeepAliveOnce(ctx, r.lease)
	return err
}

func (r *registration) grant(ctx context.Context) error {
	ctx, cancel := r.s.bound(ctx, r.s.o.RequestTimeout)
	defer cancel()
	client, err := r.s.connect(ctx)
	if err != nil {
		return err
	}
	resp, err := client.Grant(ctx, int64(r.s.o.TTL/time.Second))
	if err != nil {
		return fmt.Errorf("grant a lease: %w", sentence(err))
	}
	r.lease, r.beaten = resp.ID, time.Now()
	return nil
}

// jitter is a time within a tenth of d.
func jitter(d time.Duration) time.Duration { return d*9/10 + rand.N(d/5) }
