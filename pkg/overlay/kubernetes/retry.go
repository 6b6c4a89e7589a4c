package kubernetes

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// Retries wait from minBackoff to maxBackoff, doubling.
const (
	minBackoff = 200 * time.Millisecond
	maxBackoff = 15 * time.Second
)

// tries bounds how often something is decided anew because its objects were written in
// between.
const tries = 8

// errRaced: somebody else wrote between our look and our write.
var errRaced = errors.New("somebody else writes the same objects")

// raced has an error that says so be [errRaced].
func raced(err error) error {
	if client.IsConflict(err) || client.IsExists(err) {
		return errRaced
	}
	return err
}

// pause is how long to wait before a retry, after so many that went wrong: half of
// it is by chance, so that hosts that lost the server at the same time do not come
// back at the same time.
func pause(failures int) time.Duration {
	d := maxBackoff
	if failures < 8 {
		d = min(minBackoff<<failures, maxBackoff)
	}
	return d/2 + rand.N(d/2)
}

// asked is [pause], or longer where the server asked for that.
func asked(err error, d time.Duration) time.Duration {
	if least := min(client.RetryAfter(err), time.Minute); least > 0 {
		return max(d, least+rand.N(least))
	}
	return d
}

// again has something decided anew for as long as it is raced.
func again(ctx context.Context, fn func() error) error {
	err := errRaced
	for i := 0; i < tries && errors.Is(err, errRaced); i++ {
		if i > 0 {
			if err := sleep(ctx, pause(i-1)/4); err != nil {
				return err
			}
		}
		err = fn()
	}
	return err
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
