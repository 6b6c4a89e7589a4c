package attach

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// DefaultDir is where the host's state is: on tmpfs, so that a reboot, which takes
// every namespace away, takes the records too.
const DefaultDir = "/run/berth"

// DirEnv is the environment variable that names another folder, for tests.
const DirEnv = "BERTH_STATE_DIR"

var (
	// ErrNotFound: there is no record of that attachment.
	ErrNotFound = errors.New("no such attachment")
	// ErrExists: the attachment has been added and not deleted.
	ErrExists = errors.New("is attached already: DEL it first")

	// ErrUnreadable: this version cannot read the record.
	ErrUnreadable = errors.New("unreadable record")

	errOldStore = errors.New("the store lacks a bucket")
)

// Store is the host's records, leases and published ports: one bbolt file and
// one lock file in a folder. It holds nothing open between calls, so any number
// of processes share it.
type Store struct {
	dir    string
	decode Decoder
}

// New returns the store of a folder; of [DefaultDir], or the one that [DirEnv]
// names, when dir is empty. Nothing is opened or made before the first call.
func New(dir string, decode Decoder) *Store {
	if dir == "" {
		dir = os.Getenv(DirEnv)
	}
	if dir == "" {
		dir = DefaultDir
	}
	return &Store{dir, decode}
}

// Dir is the store's folder.
func (s *Store) Dir() string { return s.dir }

// Stamp changes whenever somebody writes to the store; empty without a database. It is
// one question to the file system.
func (s *Store) Stamp() string {
	var st unix.Stat_t
	if unix.Stat(s.path(), &st) != nil {
		return ""
	}
	return fmt.Sprint(st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec)
}

func (s *Store) path() string { return filepath.Join(s.dir, "berth.db") }

// Update runs fn in a write transaction, alone on this host. Nothing of it is
// kept when fn returns an error.
func (s *Store) Update(ctx context.Context, fn func(*Tx) error) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make state folder: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(s.dir, "lock"), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(s.path()); errors.Is(err, os.ErrNotExist) {
		if err := s.create(); err != nil {
			return err
		}
	}
	return s.with(s.path(), false, func(db *bbolt.DB) error {
		return db.Update(func(tx *bbolt.Tx) error {
			if err := addBuckets(tx); err != nil {
				return err
			}
			return fn(&Tx{tx, s.decode})
		})
	})
}

// View runs fn in a read transaction. Without a database fn is not called: there
// is nothing to see.
func (s *Store) View(ctx context.Context, fn func(*Tx) error) error {
	if _, err := os.Stat(s.path()); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	unlockFile, err := lock(ctx, filepath.Join(s.dir, "lock"), unix.LOCK_SH)
	if err != nil {
		return err
	}
	unlock := sync.OnceFunc(unlockFile)
	defer unlock()
	err = s.with(s.path(), true, func(db *bbolt.DB) error {
		return db.View(func(tx *bbolt.Tx) error {
			for _, b := range buckets {
				if tx.Bucket(b) == nil {
					return errOldStore
				}
			}
			return fn(&Tx{tx, s.decode})
		})
	})
	if errors.Is(err, errOldStore) {
		unlock()
		if err := s.Update(ctx, func(*Tx) error { return nil }); err != nil {
			return err
		}
		return s.View(ctx, fn)
	}
	return err
}

// open opens the file. The caller has the lock, so bbolt's own, which polls every
// 50 ms, never waits; the timeout is for a stranger who holds the file. file is set as
// soon as there is one.
func (s *Store) open(path string, readOnly bool, file **os.File) (*bbolt.DB, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:      5 * time.Second,
		ReadOnly:     readOnly,
		FreelistType: bbolt.FreelistMapType,
		NoStatistics: true,
		OpenFile: func(name string, flag int, perm os.FileMode) (f *os.File, err error) {
			f, err = openFile(name, flag, perm)
			*file = f
			return f, err
		},
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open %s: another program has held it for 5 s", path)
	}
	if err != nil && isDamage(err) {
		return nil, s.damaged(path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return db, nil
}

// openFile opens a file that the runtime's poller does not watch: starting it
// would be for nothing.
func openFile(name string, flag int, perm os.FileMode) (*os.File, error) {
	fd, err := unix.Open(name, flag|unix.O_CLOEXEC, uint32(perm.Perm()))
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// create makes the database under another name and renames it: one that was cut
// off while it was made would never open again.
func (s *Store) create() error {
	tmp := s.path() + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := s.with(tmp, false, func(db *bbolt.DB) error { return db.Update(addBuckets) }); err != nil {
		return fmt.Errorf("make %s: %w", tmp, err)
	}
	return os.Rename(tmp, s.path())
}

// addBuckets makes what is missing: all of it, or what an older version did not
// have.
func addBuckets(tx *bbolt.Tx) error {
	for _, b := range buckets {
		if tx.Bucket(b) != nil {
			continue
		}
		if _, err := tx.CreateBucket(b); err != nil {
			return err
		}
	}
	return nil
}

// Get returns the record of an attachment, or [ErrNotFound].
func (s *Store) Get(ctx context.Context, k Key) (*Attachment, error) {
	a, _, err := s.find(ctx, k)
	if err == nil && a == nil {
		err = fmt.Errorf("%s: %w", k, ErrNotFound)
	}
	return a, err
}

// List returns the records of a network, or of all networks when it is empty, in
// the order of their keys. Records that cannot be read do not keep the others back:
// the error names them, beside the list.
func (s *Store) List(ctx context.Context, network string) ([]*Attachment, error) {
	var prefix []byte
	if network != "" {
		prefix = []byte(network + "\x00")
	}
	var all []*Attachment
	var errs []error
	err := s.View(ctx, func(tx *Tx) error {
		c := tx.bucket(attachmentBucket).Cursor()
		for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
			a, err := tx.read(k, v)
			if err != nil {
				errs = append(errs, fmt.Errorf("%w of %s: %w", ErrUnreadable, parseKey(k), err))
				continue
			}
			all = append(all, a)
		}
		return nil
	})
	return all, errors.Join(append(errs, err)...)
}
