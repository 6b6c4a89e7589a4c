// Package durations counts how long things took, over all processes of a host: plugins,
// each of which lives for some milliseconds, and the agent that is asked about them. The
// counts are memory that the processes share, a file of fixed size on tmpfs: a process
// that counts waits for nobody, and one that dies leaves the others' counts right.
package durations

import (
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// Least is the upper bound of the first bucket; each other one's is twice that of the
	// one before. The last bucket has none.
	Least   = 125 * time.Microsecond
	Buckets = 15

	rows    = 128 // of the file
	longest = 32  // name, in bytes
	// name of the file: another layout has another name.
	name = "durations.1"
)

// Histogram is how often a thing took how long.
type Histogram struct {
	Name  string
	Sum   time.Duration
	Count [Buckets]uint64 // by bucket
}

// row is a histogram in the file. A name is written once, by the process that moved the
// state from free to taken; a row whose writer died in between is nobody's.
type row struct {
	state atomic.Uint32
	_     uint32 // what follows is aligned for 64-bit atomics
	name  [longest]byte
	sum   atomic.Uint64 // nanoseconds
	count [Buckets]atomic.Uint64
}

const (
	free = iota
	taken
	named
)

const size = rows * int(unsafe.Sizeof(row{}))

// Table is the file of a folder.
type Table struct {
	rows []row
	mem  []byte
}

// Open maps the file of a folder; [fs.ErrNotExist] when it has none.
func Open(dir string) (*Table, error) { return open(dir, os.O_RDWR) }

// Make maps the file of a folder, and makes it when it is not there.
func Make(dir string) (*Table, error) { return open(dir, os.O_RDWR|os.O_CREATE) }

func open(dir string, flags int) (*Table, error) {
	path := filepath.Join(dir, name)
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("look at %s: %w", path, err)
	}
	// Of those that find it new, each makes it as long, and none takes anything away.
	if st.Size < int64(size) {
		if err := unix.Ftruncate(fd, int64(size)); err != nil {
			return nil, fmt.Errorf("make %s %d bytes long: %w", path, size, err)
		}
	}
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return &Table{unsafe.Slice((*row)(unsafe.Pointer(unsafe.SliceData(mem))), rows), mem}, nil
}

// Close ends the mapping; the counts stay.
func (t *Table) Close() error { return unix.Munmap(t.mem) }

// Add counts one more of that name, of 31 bytes at most. When the table is full, it counts
// nothing.
func (t *Table) Add(name string, took time.Duration) {
	r := t.find(name)
	if r == nil {
		return
	}
	took = max(took, 0)
	r.sum.Add(uint64(took))
	r.count[bucket(took)].Add(1)
}

// bucket is the first one whose bound is not exceeded.
func bucket(d time.Duration) int {
	if d <= Least {
		return 0
	}
	return min(bits.Len64(uint64((d-1)/Least)), Buckets-1)
}

// Bound is the upper bound of a bucket but the last.
func Bound(bucket int) time.Duration { return Least << bucket }

// find returns the row of a name, a new one when there is none; nil when there is no room.
func (t *Table) find(name string) *row {
	var want [longest]byte
	if name == "" || copy(want[:longest-1], name) < len(name) {
		return nil
	}
	for i := range t.rows {
		r := &t.rows[i]
		switch {
		case r.state.Load() == named && r.name == want:
			return r
		case r.state.CompareAndSwap(free, taken):
			r.name = want
			r.state.Store(named)
			return r
		}
	}
	return nil
}

// All returns the histograms, those of one name added up: two processes may have begun
// it at the same time.
func (t *Table) All() []Histogram {
	var all []Histogram
	at := map[[longest]byte]int{}
	for i := range t.rows {
		r := &t.rows[i]
		if r.state.Load() != named {
			continue
		}
		n, known := at[r.name]
		if !known {
			n = len(all)
			at[r.name] = n
			all = append(all, Histogram{Name: unix.ByteSliceToString(r.name[:])})
		}
		h := &all[n]
		h.Sum += time.Duration(r.sum.Load())
		for b := range h.Count {
			h.Count[b] += r.count[b].Load()
		}
	}
	return all
}
