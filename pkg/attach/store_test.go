package attach

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestRecord(t *testing.T) {
	s := testStore(t)
	table := 7
	want := &Attachment{
		Key: Key{"net", "c", "eth0", Chained}, Plugin: "bridge", Netns: "/run/netns/c", Cookie: 1 << 63,
		Created: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Args: map[string]string{"K8S_POD_NAME": "p"}, MAC: "02:42:0a:01:00:07",
		Addresses: []Address{
			{netip.MustParsePrefix("10.1.0.7/16"), netip.MustParseAddr("10.1.0.1")},
			{Prefix: netip.MustParsePrefix("fd00::7/64")},
		},
		Routes: []Route{{Dst: netip.MustParsePrefix("0.0.0.0/0")}, {netip.MustParsePrefix("fd01::/16"), netip.MustParseAddr("fd00::1"), 1400, 1360, 5, &table, new(int)}},
		Leases: []netip.Addr{netip.MustParseAddr("10.1.0.7")},
		Ports:  []Port{{netip.MustParseAddr("::"), 80, 8080, "tcp"}, {HostPort: 53, ContainerPort: 53, Protocol: "udp"}},
		Steps:  []Step{&file{s.Dir(), "b"}, &file{s.Dir(), "a"}},
	}
	update(t, s, func(tx *Tx) error { return tx.Lease(want.Leases[0], want.Key) })
	if err := s.Add(t.Context(), &Adding{Attachment: want}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Get(t.Context(), want.Key)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestRecordErrors(t *testing.T) {
	s := New(stateDir(t), decodeFile)
	for data, want := range map[string]string{
		`{`: "decode record",
		`{"network":"net","container":"c","ifname":"eth0","steps":[{"kind":"new","spec":{}}]}`:         `record of container c (network net, eth0) has a step "new" that this version does not know`,
		`{"network":"net","container":"c","ifname":"eth0","steps":[{"kind":"file","spec":{"Dir":5}}]}`: "decode step file of container c (network net, eth0)",
	} {
		update(t, s, func(tx *Tx) error { return tx.bucket(attachmentBucket).Put(testKey("c").bytes(), []byte(data)) })
		_, get := s.Get(t.Context(), testKey("c"))
		_, list := s.List(t.Context(), "net")
		for _, err := range []error{get, list} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v", data, err)
			}
		}
	}
}

// FuzzRecord: no bytes in the store panic.
func FuzzRecord(f *testing.F) {
	data, err := json.Marshal(attachment("dir", 2))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"steps":[{"kind":"file","spec":null}]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := decodeAttachment(data, decodeFile)
		if err != nil {
			return
		}
		if _, err := json.Marshal(a); err != nil && !strings.Contains(err.Error(), "Time.MarshalJSON") {
			t.Errorf("decoded, but: %v", err)
		}
	})
}

func TestKey(t *testing.T) {
	seen := map[string]Key{}
	for _, k := range []Key{
		{"net", "c", "eth0", Main}, {"net", "c", "eth0", IPAM}, {"net", "c", "eth0", Chained},
		{"netc", "", "eth0", Main}, {"ne", "tc", "eth0", Main}, {"net", "ceth0", "", Main},
	} {
		if got := parseKey(k.bytes()); got != k {
			t.Errorf("got %+v, want %+v", got, k)
		}
		if other, ok := seen[k.Hash()]; ok {
			t.Errorf("%+v and %+v have one hash", k, other)
		}
		seen[k.Hash()] = k
		if n := k.HostIfName(); len(n) != unix.IFNAMSIZ-1 {
			t.Errorf("interface name %q", n)
		}
	}
	if got := parseKey([]byte("x")); got != (Key{Network: "x"}) {
		t.Errorf("got %+v", got)
	}
}

// count takes n addresses, one in each transaction, and counts them in a cursor.
func count(s *Store, n int) error {
	for range n {
		err := s.Update(context.Background(), func(tx *Tx) error {
			from := netip.MustParseAddr("10.1.0.0")
			last := tx.Cursor("net", "count")
			if !last.IsValid() {
				last = from
			}
			addr, _ := tx.FirstFree("net", from, netip.MustParseAddr("10.1.255.255"))
			if err := tx.Lease(addr, Key{Network: "net", Container: fmt.Sprint(os.Getpid())}); err != nil {
				return err
			}
			return tx.SetCursor("net", "count", last.Next())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// TestProcesses: no update of many processes is lost, from the first one on, which
// makes the database.
func TestProcesses(t *testing.T) {
	const processes, each = 16, 40
	s := New(stateDir(t), decodeFile)
	var all []*exec.Cmd
	for range processes {
		cmd := child(t, "count", s.Dir(), each)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		all = append(all, cmd)
	}
	for _, cmd := range all {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	err := s.View(t.Context(), func(tx *Tx) error {
		if got, want := tx.Cursor("net", "count"), plus(netip.MustParseAddr("10.1.0.0"), processes*each); got != want {
			t.Errorf("counted to %s, want %s", got, want)
		}
		if n := tx.bucket(leaseBucket).Stats().KeyN; n != processes*each {
			t.Errorf("%d leases", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCutOff: whatever a process left when it died while it made the database, the
// next one makes it.
func TestCutOff(t *testing.T) {
	whole := New(stateDir(t), decodeFile)
	update(t, whole, func(*Tx) error { return nil })
	data, err := os.ReadFile(whole.path())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 16, 100, 4095, 4096, 4097, 8192, 3 * 4096, len(data) - 1, len(data)} {
		s := testStore(t)
		if err := os.WriteFile(s.path()+".new", data[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(t.Context(), testKey("c")); !errors.Is(err, ErrNotFound) {
			t.Errorf("%d bytes: read: %v", n, err)
		}
		if err := s.Add(t.Context(), claiming(attachment(s.Dir(), 1))); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// TestDiesAtFirst: a process that makes the database dies as it writes.
func TestDiesAtFirst(t *testing.T) {
	for _, n := range []int{0, 4096, 10000, 16384, 20000, 32767} {
		s := New(stateDir(t), decodeFile)
		if err := child(t, "cut-off", s.Dir(), n).Run(); err == nil {
			t.Fatalf("%d bytes were enough for a database: the test shows nothing", n)
		}
		if err := count(s, 1); err != nil {
			t.Errorf("died after %d bytes: %v", n, err)
		}
	}
}

// TestKilledAnytime kills a process that makes the database and then writes to it:
// what it has committed is there, all of it or nothing.
func TestKilledAnytime(t *testing.T) {
	for i := range 24 {
		s := New(stateDir(t), decodeFile)
		cmd := child(t, "count", s.Dir(), 1000)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 400 * time.Microsecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // "killed"
		if err := count(s, 1); err != nil {
			t.Errorf("killed after %d x 0.4 ms: %v", i, err)
		}
		err := s.View(t.Context(), func(tx *Tx) error {
			leases, last := tx.bucket(leaseBucket).Stats().KeyN, tx.Cursor("net", "count")
			if want := plus(netip.MustParseAddr("10.1.0.0"), leases); last != want {
				t.Errorf("%d leases, counted to %s", leases, last)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestLockWait: a wait for the lock ends with the context, and does not take the
// lock later on.
func TestLockWait(t *testing.T) {
	s := testStore(t)
	update(t, s, func(*Tx) error { return nil })
	unlock, err := lock(t.Context(), filepath.Join(s.Dir(), "lock"), unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range []func(context.Context, func(*Tx) error) error{s.Update, s.View} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		start := time.Now()
		err := call(ctx, func(*Tx) error { t.Error("ran without the lock"); return nil })
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "wait for lock "+s.Dir()) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("took %s", took)
		}
		cancel()
	}
	unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Update(ctx, func(*Tx) error { return nil }); err != nil {
		t.Errorf("the waits that were given up hold the lock: %v", err)
	}
}

// TestLockShared: readers go side by side, a writer waits for them.
func TestLockShared(t *testing.T) {
	s := testStore(t)
	update(t, s, func(*Tx) error { return nil })
	unlock, err := lock(t.Context(), filepath.Join(s.Dir(), "lock"), unix.LOCK_SH)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.View(ctx, func(*Tx) error { return nil }); err != nil {
		t.Errorf("read: %v", err)
	}
	if err := s.Update(ctx, func(*Tx) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
}

func TestEmptyStore(t *testing.T) {
	s := New(filepath.Join(t.TempDir(), "not", "there"), decodeFile)
	if _, err := s.Get(t.Context(), testKey("c")); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get: %v", err)
	}
	if all, err := s.List(t.Context(), ""); err != nil || len(all) != 0 {
		t.Errorf("List: %v, %v", all, err)
	}
	if err := s.Del(t.Context(), testKey("c")); !errors.Is(err, ErrNotFound) {
		t.Errorf("Del: %v", err)
	}
	if _, err := os.Stat(s.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reading made the folder: %v", err)
	}
	update(t, s, func(*Tx) error { return nil })
}

func TestNew(t *testing.T) {
	t.Setenv(DirEnv, "")
	if got := New("", nil).Dir(); got != DefaultDir {
		t.Errorf("got %s", got)
	}
	t.Setenv(DirEnv, "/elsewhere")
	if got := New("", nil).Dir(); got != "/elsewhere" {
		t.Errorf("got %s", got)
	}
	if got := New("/named", nil).Dir(); got != "/named" {
		t.Errorf("got %s", got)
	}
}
