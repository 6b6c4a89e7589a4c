package attach

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrBusy: another call adds or deletes the attachment, and has not ended in time.
var ErrBusy = errors.New("somebody is adding or deleting it")

// busyTime is how long a call about an attachment that is under way is waited for.
const busyTime = time.Second

// lockIdle is [Store.lockKey] for those who look after attachments that are there: who
// works on one for longer knows better, so it ends with [ErrBusy].
func (s *Store) lockIdle(ctx context.Context, k Key) (unlock func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, busyTime, ErrBusy)
	defer cancel()
	return s.lockKey(ctx, k)
}

// Settle waits until nobody works on an attachment, and returns its record as it is
// then: [ErrNotFound] when it has none, [ErrBusy] when it takes longer than a second.
func (s *Store) Settle(ctx context.Context, k Key) (*Attachment, error) {
	unlock, err := s.lockIdle(ctx, k)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return s.Get(ctx, k)
}

// Reload adds again what somebody else took away from an attachment. It holds the key's
// lock, so that no ADD or DEL comes in between, reads the record again, and has steps
// choose what is looked at. Each step whose Check fails is deleted, whatever is left of
// it, and added.
//
// missing says what was not there; nil when nothing was. err says what could not be put
// back; [ErrNotFound] when there is no record, or a DEL is to be repeated, [ErrBusy]
// when another call takes longer than a second.
func (s *Store) Reload(ctx context.Context, k Key, steps func(*Attachment) []Step) (missing, err error) {
	unlock, err := s.lockIdle(ctx, k)
	if err != nil {
		return nil, err
	}
	defer unlock()
	stored, err := s.Get(ctx, k)
	if err == nil && stored.Deleting {
		err = fmt.Errorf("%s: is being deleted: %w", k, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	chosen := *stored
	chosen.Steps = steps(stored)
	a := &Adding{Attachment: &chosen, All: s.readable}
	if missing = Check(ctx, &chosen); missing == nil {
		return nil, nil
	}
	if err = Reload(ctx, a); err == nil {
		err = Check(ctx, &chosen)
	}
	if a.dirty { // a step learned something: the record has all steps, not only those chosen
		chosen.Steps = stored.Steps
		err = errors.Join(err, s.save(ctx, &chosen))
	}
	return missing, err
}
