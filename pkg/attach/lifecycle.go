package attach

import (
	"context"
	"errors"
	"fmt"
)

// Add claims what the attachment needs and then adds its steps.
//
// The claims of the steps ([Claimer]) run in one write transaction that also writes
// the record. When one fails, or the key is in use ([ErrExists]), nothing has changed.
// When a step fails, what was added is deleted again and the record dropped; should
// that deletion fail too, the record stays, for a later DEL or GC.
func (s *Store) Add(ctx context.Context, a *Adding) error {
	unlock, err := s.lockKey(ctx, a.Key)
	if err != nil {
		return err
	}
	defer unlock()
	err = s.claim(ctx, a)
	a.did("claim")
	if err != nil {
		return err
	}
	a.All = s.readable
	undo, err := addSteps(ctx, a, func() error { return s.save(ctx, a.Attachment) })
	if err == nil && len(a.atEnd) > 0 {
		undo, err = a.Steps, s.Update(ctx, a.finish)
	}
	if err == nil {
		return nil
	}
	return errors.Join(err, s.rollback(context.WithoutCancel(ctx), a.Attachment, undo))
}

func (s *Store) claim(ctx context.Context, a *Adding) error {
	return s.Update(ctx, func(tx *Tx) error {
		if tx.has(a.Key) {
			return fmt.Errorf("%s: %w", a.Key, ErrExists)
		}
		a.dirty, a.atEnd = false, nil
		for _, st := range a.Steps {
			c, ok := st.(Claimer)
			if !ok {
				continue
			}
			if err := c.Claim(tx, a); err != nil {
				return err
			}
		}
		return tx.put(a.Attachment)
	})
}

// AddUnrecorded adds the steps of what leaves nothing to be deleted, and so needs no
// record. They claim nothing.
func AddUnrecorded(ctx context.Context, a *Adding) error {
	undo, err := addSteps(ctx, a, func() error { return nil })
	return errors.Join(err, delSteps(context.WithoutCancel(ctx), a.Attachment, undo))
}

// rollback deletes the steps of an ADD that failed, and then the record.
func (s *Store) rollback(ctx context.Context, a *Attachment, steps []Step) error {
	_, err := s.markDeleting(ctx, a)
	if err := errors.Join(err, delSteps(ctx, a, steps)); err != nil {
		return err
	}
	return s.drop(ctx, a)
}

// Del deletes the attachment's steps in reverse and then its record, leases and
// ports. [ErrNotFound] when there is no record. When a step fails the others are
// deleted all the same, and the record stays so that DEL or GC can try again.
//
// It is what a runtime asks for. With the last attachment of a container that a
// runtime made, those go that a person made beside it ([Attachment.Connected]).
func (s *Store) Del(ctx context.Context, k Key) error {
	return s.del(ctx, k, false)
}

// Disconnect is [Store.Del] for a person: the container goes on, and what else it is
// attached to stays.
func (s *Store) Disconnect(ctx context.Context, k Key) error {
	return s.del(ctx, k, true)
}

func (s *Store) del(ctx context.Context, k Key, manual bool) error {
	if _, err := s.known(ctx, k, manual); err != nil { // nothing to wait for
		return err
	}
	unlock, err := s.lockKey(ctx, k)
	if err != nil {
		return err
	}
	defer unlock()
	return s.delLocked(ctx, k, manual)
}

// delLocked is del for who has the key's lock.
func (s *Store) delLocked(ctx context.Context, k Key, manual bool) error {
	a, err := s.known(ctx, k, manual)
	if err != nil {
		return err
	}
	with, err := s.markDeleting(ctx, a)
	if err != nil {
		return err
	}
	errs := []error{delSteps(ctx, a, a.Steps)}
	for _, other := range with {
		if manual {
			break
		}
		if err := s.del(ctx, other, false); err != nil && !errors.Is(err, ErrNotFound) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("delete %s: %w", k, err)
	}
	var heirs []Key
	err = s.Update(ctx, func(tx *Tx) (err error) {
		if manual {
			err = tx.dropDisconnected(a)
		} else {
			err = errors.Join(tx.drop(a), tx.forgetManual(k))
		}
		if err == nil {
			heirs, err = tx.passOn(a)
		}
		return err
	})
	if err == nil {
		s.publish(ctx, heirs)
	}
	return err
}

// known returns the record; for a runtime also of what a person has disconnected,
// empty but for its key. [ErrNotFound] when there is none.
func (s *Store) known(ctx context.Context, k Key, manual bool) (*Attachment, error) {
	a, disconnected, err := s.find(ctx, k)
	if err == nil && a == nil && disconnected && !manual {
		a = &Attachment{Key: k}
	}
	if err == nil && a == nil {
		err = fmt.Errorf("%s: %w", k, ErrNotFound)
	}
	return a, err
}

// readable lists the records that this version can read.
func (s *Store) readable(ctx context.Context) ([]*Attachment, error) {
	all, err := s.List(ctx, "")
	if errors.Is(err, ErrUnreadable) {
		err = nil
	}
	return all, err
}

func (s *Store) save(ctx context.Context, a *Attachment) error {
	return s.Update(ctx, func(tx *Tx) error { return tx.put(a) })
}

// markDeleting says in the record that the steps are about to be deleted, and returns what
// has to go with it.
func (s *Store) markDeleting(ctx context.Context, a *Attachment) (with []Key, err error) {
	look := func(tx *Tx) error {
		with = tx.goesWith(a.Key)
		return nil
	}
	if a.Deleting {
		return with, s.View(ctx, look)
	}
	a.Deleting = true
	err = s.Update(ctx, func(tx *Tx) error {
		return errors.Join(tx.bucket(deletingBucket).Put(a.bytes(), nil), look(tx))
	})
	return with, err
}

func (s *Store) drop(ctx context.Context, a *Attachment) error {
	return s.Update(ctx, func(tx *Tx) error { return tx.drop(a) })
}

// Check returns what is missing of an attachment, all of it.
func Check(ctx context.Context, a *Attachment) error {
	var errs []error
	for _, st := range a.Steps {
		if err := checkStep(ctx, st, a); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Reload adds again what somebody else took away: each step whose Check fails is
// repaired where that is enough ([Repairer]), else deleted, whatever is left of it, and
// added.
func Reload(ctx context.Context, a *Adding) error {
	for _, st := range a.Steps {
		if st.Check(ctx, a.Attachment) == nil {
			continue
		}
		if r, ok := st.(Repairer); ok && r.Repair(ctx, a) == nil && st.Check(ctx, a.Attachment) == nil {
			continue
		}
		if err := st.Del(ctx, a.Attachment); err != nil {
			return fmt.Errorf("reload %s: %w", a.Key, err)
		}
		if err := st.Add(ctx, a); err != nil {
			return fmt.Errorf("reload %s: %w", a.Key, err)
		}
	}
	return nil
}

// GC deletes every attachment of a network and role that is not valid. It goes on
// after an error, and joins them. Of what a person has disconnected valid gets the key
// alone. What a person has connected stays for as long as the container has something
// that its runtime made: the runtime does not know of it.
func (s *Store) GC(ctx context.Context, network string, role Role, valid func(*Attachment) bool) error {
	all, err := s.List(ctx, network)
	errs := []error{err} // of records that nobody can read: the others go all the same
	gone, err := s.disconnected(ctx, network)
	errs = append(errs, err)
	for _, a := range append(all, gone...) {
		if a.Role != role || valid(a) {
			continue
		}
		if a.Connected {
			stays, err := s.inUse(ctx, a.Key)
			errs = append(errs, err)
			if stays || err != nil {
				continue
			}
		}
		if err := s.Del(ctx, a.Key); err != nil && !errors.Is(err, ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
