package attach

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Unpublish deletes what the firewall has of before, and not of now.
type Unpublish func(ctx context.Context, before, now *Attachment) error

// Publish has an attachment publish more ports while its container runs. change adds them to
// the record, and to the steps that know of ports. They are claimed with the record: a
// [*HeldError] when another attachment has one. Then the steps that lack something by that add
// it, and nothing that was published before is touched. When one cannot, the record and the
// host are as they were.
func (s *Store) Publish(ctx context.Context, k Key, change func(*Attachment) error, undo Unpublish) error {
	before, now, unlock, err := s.changing(ctx, k, change)
	if err != nil {
		return err
	}
	defer unlock()
	err = s.Update(ctx, func(tx *Tx) error {
		for _, p := range now.Ports {
			if err := tx.ClaimPort(p, k); err != nil {
				return err
			}
		}
		return tx.put(now)
	})
	if err != nil {
		return err
	}
	if err = s.addMissing(ctx, before, now); err == nil {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	err = errors.Join(err, undo(ctx, now, before), s.Update(ctx, func(tx *Tx) error { return tx.replacePorts(now, before) }))
	before.Steps = ofPorts(before)
	return errors.Join(err, Reload(ctx, &Adding{Attachment: before, All: s.readable}))
}

// Withdraw has an attachment publish less while its container runs: change takes the ports
// from the record, and remove from the firewall.
func (s *Store) Withdraw(ctx context.Context, k Key, change func(*Attachment) error, remove Unpublish) error {
	before, now, unlock, err := s.changing(ctx, k, change)
	if err != nil {
		return err
	}
	defer unlock()
	if err := remove(ctx, before, now); err != nil {
		return err
	}
	return s.Update(ctx, func(tx *Tx) error { return tx.replacePorts(before, now) })
}

// changing locks the key, and reads the record twice: as it is, and as it is to be.
func (s *Store) changing(ctx context.Context, k Key, change func(*Attachment) error) (before, now *Attachment, unlock func(), err error) {
	if unlock, err = s.lockIdle(ctx, k); err != nil {
		return nil, nil, nil, err
	}
	if before, err = s.Get(ctx, k); err == nil {
		now, err = s.Get(ctx, k)
	}
	if err == nil && now.Deleting {
		err = fmt.Errorf("%s: is being deleted: %w", k, ErrNotFound)
	}
	if err == nil {
		err = change(now)
	}
	if err != nil {
		unlock()
		return nil, nil, nil, err
	}
	return before, now, unlock, nil
}

// addMissing adds what the steps of ports lack, and what others lack now and did not before.
func (s *Store) addMissing(ctx context.Context, before, now *Attachment) error {
	a := &Adding{Attachment: now, All: s.readable}
	always := ofPorts(now)
	for i, st := range now.Steps {
		if checkStep(ctx, st, now) == nil || !slices.Contains(always, st) && checkStep(ctx, before.Steps[i], before) != nil {
			continue
		}
		if r, ok := st.(Repairer); ok {
			if err := r.Repair(ctx, a); err != nil {
				return err
			}
		} else if err := addStep(ctx, st, a); err != nil { // of these a second Add adds what is missing
			return err
		}
		if err := checkStep(ctx, st, now); err != nil {
			return err
		}
	}
	return nil
}

// replacePorts writes the record with other ports, and gives back those that it has no more.
func (t *Tx) replacePorts(before, now *Attachment) error {
	for _, p := range before.Ports {
		if slices.ContainsFunc(now.Ports, p.Overlaps) {
			continue
		}
		if err := t.releasePort(p, before.Key); err != nil {
			return err
		}
	}
	return t.put(now)
}
