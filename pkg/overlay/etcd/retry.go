package etcd

import (
	"context"
	"math/rand/v2"
	"time"
)

// Retries wait from minBackoff to maxBackoff, doubling.
const (
	minBackoff = 200 * time.Millisecond
	maxBackoff = 15 * time.Second
)

// pause is how long to wait before a retry, after so many that went wrong: half of
// it is by chance, so that hosts that lost the store at the same time do not come
// back at the same time.
func pause(failures int) time.Duration {
	d := maxBackoff
	if failures < 8 {
		d = min(minBackoff<<failures, maxBackoff)
	}
	return d/2 + rand.N(d/2)
}

// sleep returns early, with its error, when the context ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
