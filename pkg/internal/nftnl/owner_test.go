package nftnl

import (
	"errors"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func owned(name string) *Table {
	return &Table{Family: unix.NFPROTO_INET, Name: name, Sets: func() []Set { return nil }, Chains: func() []Chain {
		return []Chain{{Name: "c", Kind: nftables.ChainTypeFilter, Hook: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
			Rules: [][]expr.Any{{&expr.Verdict{Kind: expr.VerdictAccept}}}}}
	}}
}

// newOwner skips the test where the kernel has no nftables.
func newOwner(t *testing.T) *Owner {
	t.Helper()
	if err := owned("any").Supported(); err != nil {
		t.Skipf("the kernel has no nftables of family inet: %v", err)
	}
	o, err := Own("berth-test-")
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func tables(t *testing.T) string {
	t.Helper()
	out, err := nstest.Output("nft", "list", "tables")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestOwner: tables of two owners are there side by side, each as long as its owner.
func TestOwner(t *testing.T) {
	nstest.Host(t)
	one, two := newOwner(t), newOwner(t)
	for _, o := range []*Owner{one, two} {
		if err := o.Make(owned(o.Name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := two.Make(owned(two.Name)); !errors.Is(err, unix.EEXIST) {
		t.Errorf("made twice: %v", err)
	}
	if err := one.Close(); err != nil {
		t.Error(err)
	}
	if got := tables(t); strings.Contains(got, one.Name+"\n") || !strings.Contains(got, two.Name+"\n") {
		t.Errorf("%s is closed, %s is not:\n%s", one.Name, two.Name, got)
	}
	if err := two.Close(); err != nil {
		t.Error(err)
	}
	if got := tables(t); got != "" {
		t.Errorf("both are closed:\n%s", got)
	}
}

// TestOwnerSweeps: what is left of an owner that was killed, in a kernel that does not remove
// its tables, goes with the next one's first table; that of one that lives stays, and so does
// what only has a name like it.
func TestOwnerSweeps(t *testing.T) {
	nstest.Host(t)
	dead, alive, next := newOwner(t), newOwner(t), newOwner(t)
	for _, o := range []*Owner{dead, alive} {
		if err := o.make(owned(o.Name), 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"berth-test-", "berth-test-x", "other"} {
		if err := dead.make(owned(name), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := dead.conn.Close(); err != nil {
		t.Fatal(err)
	}
	next.sweep(unix.NFPROTO_INET)
	got := tables(t)
	for name, want := range map[string]bool{dead.Name: false, alive.Name: true, "berth-test-": true, "berth-test-x": true, "other": true} {
		if strings.Contains(got, "inet "+name+"\n") != want {
			t.Errorf("table %s: want it %v\n%s", name, want, got)
		}
	}
}
