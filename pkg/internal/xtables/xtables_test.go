package xtables

import (
	"testing"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"github.com/berth-cni/berth/pkg/nstest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// TestMentions writes rules with both forms of the program, and finds them without.
func TestMentions(t *testing.T) {
	nstest.Host(t)
	s, err := nftnl.Dial()
	if err != nil {
		t.Fatal(err)
	}
	const text = `id: "c1"`
	for _, f := range Forms {
		if n, err := f.Mentions(s, "nat", "POSTROUTING", text); n != 0 || err != nil {
			t.Errorf("%s, nothing there: %d, %v", f, n, err)
		}
		table, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"c1", "c2", "c1"} {
			if err := table.Append("nat", "POSTROUTING", "-o", "eth0", "-m", "comment", "--comment", `name: "n" id: "`+id+`"`, "-j", "ACCEPT"); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := f.Mentions(s, "nat", "POSTROUTING", text); n != 2 || err != nil {
			t.Errorf("%s: %d, %v, want 2", f, n, err)
		}
		if err := table.ChangePolicy("filter", "FORWARD", "DROP"); err != nil {
			t.Fatal(err)
		}
	}
	all, err := Chains(s, "FORWARD")
	if err != nil || len(all) != len(Forms) {
		t.Fatalf("%v, %v", all, err)
	}
	for _, c := range all {
		if !c.Drops {
			t.Errorf("%s: the policy is not drop", c)
		}
	}
}

// No answer, however broken, is more than one that is not understood.
func FuzzChain(f *testing.F) {
	f.Add(nftnl.Request(nftnl.NewChain, 0, unix.NFPROTO_IPV4).Bytes(unix.NFTA_CHAIN_POLICY, []byte{0, 0, 0, 0}).Append(nil, 1, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		for m := range netlink.Messages(data) {
			drops(m)
		}
	})
}
