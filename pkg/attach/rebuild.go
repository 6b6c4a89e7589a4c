package attach

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// Rebuilt is what a state file gets beside what could be read of it.
type Rebuilt struct {
	Records  []*Attachment
	Networks []Network // one that the file has stays as it is there
}

// Outcome says what [Store.Rebuild] did.
type Outcome struct {
	Kept string // where the file is that was damaged; empty: there was none
	// Refused are addresses and ports that a record has and another one has already: a
	// container that was added later has them.
	Refused []error
}

// Rebuild makes the state file again. choose is told what can be read of the one that
// there is, takes out what is not to be in it any more, and says what else is to be;
// nobody adds or deletes anything meanwhile, and it must not use the store. A file that is whole, and whose records can be read, gets
// what is new. Any other is kept beside, and never changed; the one in its place is
// complete when it comes there. A process that is killed leaves one or the other.
func (s *Store) Rebuild(ctx context.Context, choose func(*Salvage) (*Rebuilt, error)) (*Outcome, error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state folder: %w", err)
	}
	idle, err := s.lockKeys(ctx)
	if err != nil {
		return nil, err
	}
	defer idle()
	unlock, err := lock(ctx, filepath.Join(s.dir, "lock"), unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer unlock()
	old, err := s.salvage()
	if err != nil {
		return nil, err
	}
	if old.Deleted, err = s.deleted(); err != nil {
		return nil, err
	}
	more, err := choose(old)
	if err != nil {
		return nil, err
	}
	out := &Outcome{}
	write := func(path string, from *Salvage) error {
		return s.with(path, false, func(db *bbolt.DB) error {
			return db.Update(func(tx *bbolt.Tx) error {
				out.Refused = nil
				if err := addBuckets(tx); err != nil {
					return err
				}
				return (&Tx{tx, s.decode}).fill(from, more, out)
			})
		})
	}
	if old.Damage == nil && !old.Missing && len(old.Unreadable) == 0 {
		if err = write(s.path(), &Salvage{}); !errors.Is(err, ErrDamaged) {
			return out, err
		}
	}
	tmp := s.path() + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := write(tmp, old); err != nil {
		return nil, fmt.Errorf("make %s: %w", tmp, err)
	}
	if !old.Missing {
		if out.Kept, err = s.keep(); err != nil {
			return nil, err
		}
	}
	if err := os.Rename(tmp, s.path()); err != nil {
		return nil, err
	}
	if err := os.Remove(s.deletedPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return out, nil
}

// keep gives the state file a second name, which stays when another file takes its place.
// One that a rebuild gave it which was killed is enough.
func (s *Store) keep() (name string, err error) {
	now, err := os.Stat(s.path())
	if err != nil {
		return "", err
	}
	prefix := s.path() + ".damaged-"
	before, _ := filepath.Glob(prefix + "*")
	for _, name := range before {
		if i, err := os.Stat(name); err == nil && os.SameFile(i, now) {
			return name, nil
		}
	}
	name = prefix + time.Now().UTC().Format("20060102T150405.000000000Z")
	if err := os.Link(s.path(), name); err != nil {
		return "", fmt.Errorf("keep the damaged state file: %w", err)
	}
	return name, nil
}

// Verify tells whether all of the state file is as it was written: [ErrDamaged] when it is
// not. It reads all of it. Without a file there is nothing wrong with it.
func (s *Store) Verify(ctx context.Context) error {
	if s.Missing() {
		return nil
	}
	unlock, err := lock(ctx, filepath.Join(s.dir, "lock"), unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer unlock()
	data, err := os.ReadFile(s.path())
	if err != nil {
		return fmt.Errorf("read the state file: %w", err)
	}
	if f := salvage(data, s.decode); f.Damage != nil {
		return s.damaged(s.path(), f.Damage)
	}
	return nil
}

// Missing tells that there is no state file.
func (s *Store) Missing() bool {
	_, err := os.Stat(s.path())
	return errors.Is(err, fs.ErrNotExist)
}

// fill writes what could be read of a file, and then what is new.
func (t *Tx) fill(old *Salvage, more *Rebuilt, out *Outcome) error {
	for bucket, pairs := range old.rest {
		b, err := t.tx.CreateBucketIfNotExists([]byte(bucket))
		if err != nil {
			return err
		}
		for _, p := range pairs {
			if len(p.key) == 0 || len(p.key) > bbolt.MaxKeySize {
				continue
			}
			if err := b.Put(p.key, p.value); err != nil {
				return err
			}
		}
	}
	for _, all := range [][]Network{old.Networks, more.Networks} {
		for _, n := range all {
			if _, known := t.Network(n.Name); known {
				continue
			}
			if err := t.PutNetwork(n); err != nil {
				return err
			}
		}
	}
	for _, all := range [][]*Attachment{old.Records, more.Records} {
		for _, a := range all {
			if err := t.putAgain(a, out); err != nil {
				return fmt.Errorf("write the record of %s: %w", a.Key, err)
			}
		}
	}
	return nil
}

// putAgain writes a record with its leases and ports, but for those that another has.
func (t *Tx) putAgain(a *Attachment, out *Outcome) error {
	again := *a
	again.Leases, again.Ports = nil, nil
	refused := func(err error) (bool, error) {
		if held := (*HeldError)(nil); errors.As(err, &held) && held.Holder != a.Key {
			out.Refused = append(out.Refused, fmt.Errorf("%s: %w", a.Key, err))
			return true, nil
		} else if held != nil {
			return false, nil
		}
		return false, err
	}
	for _, addr := range a.Leases {
		if taken, err := refused(t.Lease(addr, a.Key)); err != nil {
			return err
		} else if !taken {
			again.Leases = append(again.Leases, addr)
		}
	}
	for _, p := range a.Ports {
		if taken, err := refused(t.ClaimPort(p, a.Key)); err != nil {
			return err
		} else if !taken {
			again.Ports = append(again.Ports, p)
		}
	}
	if a.Deleting {
		if err := t.bucket(deletingBucket).Put(a.bytes(), nil); err != nil {
			return err
		}
	}
	return t.put(&again)
}
