package attach

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// ErrDamaged: the database cannot be read as what it was written as: it was cut,
// overwritten, or emptied by somebody. No record can be had from it.
var ErrDamaged = errors.New("is damaged")

func (s *Store) damaged(path string, what any) error {
	return fmt.Errorf("the state file %s %w (%v): 'berth doctor --fix' makes it anew from the kernel", path, ErrDamaged, what)
}

// with opens the database of a path, has do use it, and closes it. bbolt maps the file
// and trusts what it finds: it panics on a page that is not one, and a page behind the
// file's end is a fault of memory. Either is [ErrDamaged].
func (s *Store) with(path string, readOnly bool, do func(*bbolt.DB) error) (err error) {
	// bbolt takes a file without a byte for one that is to be made. It is never made
	// in its place (see [Store.create]): somebody emptied it.
	if i, err := os.Stat(path); err == nil && i.Size() == 0 {
		return s.damaged(path, "it is empty")
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var db *bbolt.DB
	var file *os.File
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if !ofDatabase(p) {
			panic(p)
		}
		err = s.damaged(path, p)
		giveUp(db, file)
	}()
	if db, err = s.open(path, readOnly, &file); err != nil {
		return err
	}
	return errors.Join(do(db), db.Close())
}

// giveUp ends the use of a database that panicked. bbolt's lock of the file (flock(2))
// would outlive it otherwise: the file may still be mapped.
func giveUp(db *bbolt.DB, file *os.File) {
	defer func() {
		_ = recover()
		if file != nil {
			_ = file.Close()
		}
	}()
	if file != nil {
		_ = unix.Flock(int(file.Fd()), unix.LOCK_UN)
	}
	if db != nil {
		_ = db.Close()
	}
}

// isDamage tells whether bbolt's refusal to open a file is about what is in it.
func isDamage(err error) bool {
	for _, is := range []error{bolterrors.ErrInvalid, bolterrors.ErrVersionMismatch, bolterrors.ErrChecksum} {
		if errors.Is(err, is) {
			return true
		}
	}
	var path *fs.PathError
	return !errors.As(err, &path) && !errors.Is(err, bolterrors.ErrTimeout) && strings.Contains(err.Error(), "file size too small")
}

// ofDatabase tells, while a panic is recovered, whether it is the database's: bbolt's
// own, or a fault of memory, which is where the file is mapped.
func ofDatabase(p any) bool {
	if _, fault := p.(interface{ Addr() uintptr }); fault {
		return true
	}
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	for panicked := false; ; {
		f, more := frames.Next()
		if of := strings.HasPrefix(f.Function, "runtime."); panicked && !of {
			return strings.HasPrefix(f.Function, "go.etcd.io/bbolt")
		}
		panicked = panicked || f.Function == "runtime.gopanic"
		if !more {
			return false
		}
	}
}
