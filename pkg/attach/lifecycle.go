package attach

import (
	"context"
	"errors"
	"fmt"
)

// Add claims what the attachment needs and then adds its steps.
//
// claim runs in one write transaction that also writes the record: it takes
// leases and ports, and sets the attachment's steps. When it fails, or the key
// is in use ([ErrExists]), nothing has changed. When a step fails, what was added
// is deleted again and the record dropped; should that deletion fail too, the
// record stays, for a later DEL or GC.
func (s *Store) Add(ctx context.Context, a *Attachment, claim func(*Tx) error) error {
	unlock, err := s.lockKey(ctx, a.Key)
	if err != nil {
		return err
	}
	defer unlock()
	err = s.Update(ctx, func(tx *Tx) error {
		if tx.has(a.Key) {
			return fmt.Errorf("%s: %w", a.Key, ErrExists)
		}
		if err := claim(tx); err != nil {
			return err
		}
		a.dirty = false
		return tx.put(a)
	})
	a.did("claim")
	if err != nil {
		return err
	}
	a.All = s.readable
	save := func() error { return s.save(ctx, a) }
	going := func() error { return s.going(context.WithoutCancel(ctx), a) }
	rolledBack, err := addSteps(ctx, a, save, going)
	if rolledBack {
		err = errors.Join(err, s.drop(context.WithoutCancel(ctx), a))
	}
	return err
}

// Del deletes the attachment's steps in reverse and then its record, leases and
// ports. [ErrNotFound] when there is no record. When a step fails the others are
// deleted all the same, and the record stays so that DEL or GC can try again.
func (s *Store) Del(ctx context.Context, k Key) error {
	if _, err := s.Get(ctx, k); err != nil { // nothing to wait for
		return err
	}
	unlock, err := s.lockKey(ctx, k)
	if err != nil {
		return err
	}
	defer unlock()
	a, err := s.Get(ctx, k)
	if err != nil {
		return err
	}
	if err := s.going(ctx, a); err != nil {
		return err
	}
	if err := delSteps(ctx, a, a.Steps); err != nil {
		return fmt.Errorf("delete %s: %w", a.Key, err)
	}
	return s.drop(ctx, a)
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

// going says in the record that the steps are about to be deleted.
func (s *Store) going(ctx context.Context, a *Attachment) error {
	if a.Going {
		return nil
	}
	a.Going = true
	return s.Update(ctx, func(tx *Tx) error { return tx.bucket(goingBucket).Put(a.bytes(), nil) })
}

func (s *Store) drop(ctx context.Context, a *Attachment) error {
	return s.Update(ctx, func(tx *Tx) error { return tx.drop(a) })
}

// Check returns what is missing of an attachment, all of it.
func Check(ctx context.Context, a *Attachment) error {
	var errs []error
	for _, st := range a.Steps {
		if err := st.Check(ctx, a); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Reload adds again what somebody else took away: each step whose Check fails is
// deleted, whatever is left of it, and added.
func Reload(ctx context.Context, a *Attachment) error {
	for _, st := range a.Steps {
		if st.Check(ctx, a) == nil {
			continue
		}
		if err := st.Del(ctx, a); err != nil {
			return fmt.Errorf("reload %s: %w", a.Key, err)
		}
		if err := st.Add(ctx, a); err != nil {
			return fmt.Errorf("reload %s: %w", a.Key, err)
		}
	}
	return nil
}

// GC deletes every attachment of a network and role that valid does not name. It
// goes on after an error, and joins them.
func (s *Store) GC(ctx context.Context, network string, role Role, valid func(container, ifName string) bool) error {
	all, err := s.List(ctx, network)
	errs := []error{err} // of records that nobody can read: the others go all the same
	for _, a := range all {
		if a.Role != role || valid(a.Container, a.IfName) {
			continue
		}
		if err := s.Del(ctx, a.Key); err != nil && !errors.Is(err, ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
