package attach

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childEnv has the test binary do one thing and end: "what folder number".
const childEnv = "BERTH_ATTACH_TEST_CHILD"

func TestMain(m *testing.M) {
	var what, dir string
	var n int
	if _, err := fmt.Sscan(os.Getenv(childEnv), &what, &dir, &n); err == nil {
		if err := childMain(what, dir, n); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func childMain(what, dir string, n int) error {
	s := New(dir, decodeFile)
	switch what {
	case "count":
		return count(s, n)
	case "cut-off": // writing a file beyond n bytes ends the process
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: uint64(n), Max: uint64(n)}); err != nil {
			return err
		}
		return count(s, 1)
	case "add":
		return s.Add(context.Background(), claiming(attachment(dir, 4)))
	case "connect":
		a := attachment(dir, n)
		a.IfName, a.Connected, a.Leases, a.Ports = "eth1", true, nil, nil
		return s.Add(context.Background(), &Adding{Attachment: a})
	}
	return fmt.Errorf("child: what is %q?", what)
}

// child is another process that does what childMain says.
func child(t *testing.T, what, dir string, n int) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", childEnv, what, dir, n))
	return cmd
}

// stateDir is in memory where the machine has a tmpfs for it, as the host's is.
func stateDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "attach")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// testStore is a store whose steps are files in its own folder. When the test
// ends it is checked.
func testStore(t *testing.T) *Store {
	t.Helper()
	s := New(stateDir(t), decodeFile)
	t.Cleanup(func() { consistent(t, s) })
	return s
}

// file is a step that makes a file. A file "trap.NAME" says what its Add and Del
// do in place of it.
type file struct {
	Dir, Name string
}

func decodeFile(kind string) Step {
	switch kind {
	case "file":
		return &file{}
	case "claims":
		return &claims{}
	}
	return nil
}

func (f *file) Kind() string { return "file" }
func (f *file) path() string { return filepath.Join(f.Dir, "step."+f.Name) }
func (f *file) trap() string {
	words, _ := os.ReadFile(filepath.Join(f.Dir, "trap."+f.Name))
	return string(words)
}

func (f *file) Add(ctx context.Context, a *Adding) error {
	switch f.trap() {
	case "error":
		return errors.New("add " + f.Name + ": trapped")
	case "panic":
		f.make()
		panic("trapped")
	case "left":
		f.make()
		return errors.Join(errors.New("add "+f.Name+": trapped"), ErrLeft)
	case "kill before":
		die()
	case "kill":
		f.make()
		die()
	case "unsaveable":
		a.Created = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) // no year of JSON's
		a.Changed()
	case "changed":
		a.MAC = "of " + f.Name
		a.Changed()
	}
	return f.make()
}

func (f *file) make() error {
	h, err := os.OpenFile(f.path(), os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return h.Close()
}

func (f *file) Del(ctx context.Context, _ *Attachment) error {
	if err := f.log(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("delete %s: %w", f.Name, ctx.Err())
	}
	switch f.trap() {
	case "del":
		return errors.New("delete " + f.Name + ": trapped")
	case "del panic":
		panic("trapped")
	}
	if err := os.Remove(f.path()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// log writes down in which order steps are deleted.
func (f *file) log() error {
	h, err := os.OpenFile(filepath.Join(f.Dir, "deleted"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(h, f.Name, " ")
	return errors.Join(err, h.Close())
}

func (f *file) Check(context.Context, *Attachment) error {
	if f.trap() == "check panic" {
		panic("trapped")
	}
	_, err := os.Stat(f.path())
	return err
}

// die is what SIGKILL does to a process.
func die() {
	self, _ := os.FindProcess(os.Getpid())
	_ = self.Kill()
	time.Sleep(time.Minute)
}

func trap(t *testing.T, s *Store, name, what string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.Dir(), "trap."+name), []byte(what), 0o600); err != nil {
		t.Fatal(err)
	}
}

func untrap(t *testing.T, s *Store, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(s.Dir(), "trap."+name)); err != nil {
		t.Fatal(err)
	}
}

// made is the names of the steps that are in place.
func made(t *testing.T, s *Store) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.Dir(), "step.*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range files {
		files[i] = strings.TrimPrefix(filepath.Base(files[i]), "step.")
	}
	return strings.Join(files, " ")
}

func testKey(container string) Key { return Key{Network: "net", Container: container, IfName: "eth0"} }

// attachment is container c's, with steps named 0 to n-1.
func attachment(dir string, n int) *Attachment {
	a := &Attachment{
		Key:     testKey("c"),
		Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Leases:  []netip.Addr{netip.MustParseAddr("10.1.0.7"), netip.MustParseAddr("fd00::7")},
		Ports:   []Port{{HostPort: 80, ContainerPort: 8080, Protocol: "tcp"}},
	}
	for i := range n {
		a.Steps = append(a.Steps, &file{dir, fmt.Sprint(i)})
	}
	return a
}

// claims is a step that claims what attachment says, and then fails if it is to.
type claims struct{ fault error }

func (*claims) Kind() string                             { return "claims" }
func (*claims) Add(context.Context, *Adding) error       { return nil }
func (*claims) Del(context.Context, *Attachment) error   { return nil }
func (*claims) Check(context.Context, *Attachment) error { return nil }
func (c *claims) Claim(tx *Tx, a *Adding) error {
	from := attachment("", 0)
	a.Leases, a.Ports = from.Leases, from.Ports
	for _, addr := range a.Leases {
		if err := tx.Lease(addr, a.Key); err != nil {
			return err
		}
	}
	for _, p := range a.Ports {
		if err := tx.ClaimPort(p, a.Key); err != nil {
			return err
		}
	}
	return c.fault
}

// claiming is an ADD that claims what the attachment says.
func claiming(a *Attachment) *Adding {
	a.Steps = append([]Step{&claims{}}, a.Steps...)
	return &Adding{Attachment: a}
}

// dump is all that the database has.
func dump(t *testing.T, s *Store) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := s.View(t.Context(), func(tx *Tx) error {
		for _, name := range buckets {
			err := tx.bucket(name).ForEach(func(k, v []byte) error {
				all[string(name)+"/"+string(k)] = string(v)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func same(t *testing.T, got, want map[string]string) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("the store has changed:\ngot  %q\nwant %q", got, want)
	}
}

// consistent checks that the database is sound, that leases and bitmaps agree, and
// that every lease and port has the record of its holder, which has it.
func consistent(t *testing.T, s *Store) {
	t.Helper()
	err := s.View(context.Background(), func(tx *Tx) error {
		var errs []error
		for err := range tx.tx.Check() {
			errs = append(errs, err)
		}
		used := map[string][]byte{}
		errs = append(errs, tx.bucket(leaseBucket).ForEach(func(k, v []byte) error {
			network, raw, _ := bytes.Cut(k, []byte{0})
			addr, ok := netip.AddrFromSlice(raw)
			if !ok {
				return fmt.Errorf("lease of %q", k)
			}
			block, bit := blockKey(string(network), addr.Unmap())
			if used[string(block)] == nil {
				used[string(block)] = make([]byte, blockLen)
			}
			used[string(block)][bit/8] |= 1 << (bit % 8)
			return holds(tx, v, addr.Unmap().String(), func(a *Attachment) bool { return slices.Contains(a.Leases, addr.Unmap()) })
		}))
		errs = append(errs, tx.bucket(usedBucket).ForEach(func(k, v []byte) error {
			if !bytes.Equal(used[string(k)], v) {
				return fmt.Errorf("block %x: bitmap %x, leases %x", k, v, used[string(k)])
			}
			delete(used, string(k))
			return nil
		}))
		if len(used) > 0 {
			errs = append(errs, fmt.Errorf("blocks without a bitmap: %q", slices.Collect(maps.Keys(used))))
		}
		errs = append(errs, tx.bucket(portBucket).ForEach(func(k, v []byte) error {
			return holds(tx, v, fmt.Sprintf("port %q", k), func(a *Attachment) bool { return len(a.Ports) > 0 })
		}))
		errs = append(errs, tx.keptConsistent())
		return errors.Join(errs...)
	})
	if err != nil {
		t.Errorf("the store is inconsistent: %v", err)
	}
}

func holds(tx *Tx, holder []byte, what string, has func(*Attachment) bool) error {
	data := tx.bucket(attachmentBucket).Get(holder)
	if data == nil {
		return fmt.Errorf("%s: its holder %q has no record", what, holder)
	}
	a, err := decodeAttachment(data, tx.decode)
	if err == nil && !has(a) {
		err = fmt.Errorf("%s: the record of its holder %s does not have it", what, a.Key)
	}
	return err
}
