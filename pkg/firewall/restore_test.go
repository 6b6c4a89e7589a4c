package firewall

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// TestVersion fails when the table changes and its version does not. Raise the
// number in publish, then write the new sum here.
func TestVersion(t *testing.T) {
	const version, sum = "publish_2", 0xe393011c
	all := crc32.NewIEEE()
	for _, s := range sets() {
		fmt.Fprintln(all, s.name, s.key.Name, s.data.Name)
	}
	for _, c := range chains() {
		name := c.name
		if name == publish {
			name = "publish"
		}
		fmt.Fprintln(all, name, c.kind, len(c.rules), c.jumps)
		if c.hook != nil {
			fmt.Fprintln(all, *c.hook, *c.priority)
		}
		for _, exprs := range c.rules {
			for _, e := range exprs {
				if v, ok := e.(*expr.Verdict); ok && v.Chain == publish {
					e = &expr.Verdict{Kind: v.Kind}
				}
				data, err := expr.Marshal(inetTable, e)
				if err != nil {
					t.Fatal(err)
				}
				all.Write(data)
			}
		}
	}
	if users := natChains()[0].users(); users != publishUsers {
		t.Errorf("publishUsers is %d, and the chain has %d", publishUsers, users)
	}
	if publish != version || all.Sum32() != sum {
		t.Errorf("the table is %s with sum %#x, this test knows %s with %#x", publish, all.Sum32(), version, sum)
	}
}

// on makes one container of a bridge, with a port and the records that it sees.
func on(r *Rules, number int, all func() []*attach.Attachment) *attach.Attachment {
	a := benchAttachment(number, r)
	a.Created = time.Unix(int64(number), 0)
	a.All = func(context.Context) ([]*attach.Attachment, error) { return all(), nil }
	return a
}

// TestAddNotices has others damage the table: the next Add puts everybody back.
func TestAddNotices(t *testing.T) {
	for _, damage := range []string{
		"nft flush ruleset",
		"nft flush table inet berth",
		"nft flush chain inet berth " + publish,
		"nft rename chain inet berth " + publish + " publish_0",
	} {
		t.Run(damage, func(t *testing.T) {
			nstest.Host(t)
			r := &Rules{Backend: NFTables, Bridge: "br1", Masquerade: true}
			var all []*attach.Attachment
			list := func() []*attach.Attachment { return all }
			for i := range 3 {
				if i == 1 {
					run(t, damage)
					if r.Check(t.Context(), all[0]) == nil {
						t.Error("Check misses nothing")
					}
				}
				a := on(r, i+1, list)
				all = append(all, a)
				if err := r.Add(t.Context(), a); err != nil {
					t.Fatal(err)
				}
			}
			for _, a := range all {
				if err := r.Check(t.Context(), a); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestRestoreNewest: what the network is follows from its newest attachment, in
// whatever order they are listed.
func TestRestoreNewest(t *testing.T) {
	nstest.Host(t)
	var all []*attach.Attachment
	list := func() []*attach.Attachment { return all }
	all = append(all,
		on(&Rules{Backend: NFTables, Bridge: "br1", Internal: true}, 1, list),
		on(&Rules{Backend: NFTables, Bridge: "br1", Isolate: true}, 3, list),
		on(&Rules{Backend: NFTables, Bridge: "br1", NoICC: true}, 2, list))
	other := &Rules{Backend: NFTables, Bridge: "br2"}
	if err := other.Add(t.Context(), on(other, 4, list)); err != nil {
		t.Fatal(err)
	}
	if err := rulesOf(all[1]).Check(t.Context(), all[1]); err != nil {
		t.Error(err)
	}
	for set, want := range map[string]bool{internal: false, isolated: true, noICC: false} {
		if got := strings.Contains(run(t, "nft list set inet berth "+set), "br1"); got != want {
			t.Errorf("br1 in %s: %v, want %v", set, got, want)
		}
	}
}

// TestCheckUnwanted has a network in a set that its settings do not ask for.
func TestCheckUnwanted(t *testing.T) {
	for _, set := range []string{internal, isolated, noICC} {
		nstest.Host(t)
		r := &Rules{Backend: NFTables, Bridge: "br1"}
		a := benchAttachment(1, r)
		if err := r.Add(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if err := r.Check(t.Context(), a); err != nil {
			t.Error(err)
		}
		run(t, "nft add element inet berth "+set+" { br1 }")
		if err := r.Check(t.Context(), a); err == nil || !strings.Contains(err.Error(), "set "+set) {
			t.Errorf("%s: Check says %v", set, err)
		}
	}
}

// TestRestoreRace has others come and go between the steps of a restoration.
func TestRestoreRace(t *testing.T) {
	for _, damage := range []string{"nft flush ruleset", "nft flush table inet berth"} {
		t.Run(damage, func(t *testing.T) {
			nstest.Host(t)
			r := &Rules{Backend: NFTables, Bridge: "br1", Masquerade: true}
			alone := &Rules{Backend: NFTables, Bridge: "veth1"}
			gone, going, brief := on(r, 2, nil), on(r, 3, nil), on(alone, 4, nil)
			late, reuser, heir := on(r, 5, nil), on(r, 6, nil), on(r, 7, nil)
			reuser.Ports, heir.Addresses = going.Ports, gone.Addresses
			add := func(all ...*attach.Attachment) { // as those do that find the table
				s, err := dial()
				if err == nil {
					err = s.write(elementsOf(all))
				}
				if err != nil {
					t.Error(err)
				}
			}
			var me *attach.Attachment
			lists, replaced := 0, damage != "nft flush ruleset"
			if replaced {
				lists-- // for the attempt that finds a table
			}
			me = on(r, 1, func() []*attach.Attachment {
				lists++
				switch lists {
				case 0:
				case 1:
					if replaced {
						add(late, reuser) // they go with the old table
					}
				case 2:
					going.Going = true
					if !replaced {
						add(late, reuser)
					}
					defer add(heir) // before the address of the one that is gone is removed
					return []*attach.Attachment{me, going, late, reuser, brief}
				default:
					return []*attach.Attachment{me, going, late, reuser, heir}
				}
				return []*attach.Attachment{me, gone, going}
			})
			if err := makeTable(false, nil); err != nil { // there is something to damage
				t.Fatal(err)
			}
			run(t, damage)
			if err := r.Add(t.Context(), me); err != nil {
				t.Fatal(err)
			}
			for _, a := range []*attach.Attachment{me, late, reuser, heir} {
				if err := r.Check(t.Context(), a); err != nil {
					t.Error(err)
				}
			}
			if left := linesWith(t, gone.Hash(), going.Hash(), brief.Hash(), "veth1"); left != "" {
				t.Errorf("is back:\n%s", left)
			}
		})
	}
}

// TestWholeBesideOthers: transactions under way that the kernel is to refuse, as
// those of others that found no table either, are not taken for damage.
func TestWholeBesideOthers(t *testing.T) {
	ns := nstest.Namespace(t)
	nstest.In(t, ns, func() {
		if err := makeTable(false, nil); err != nil {
			t.Fatal(err)
		}
	})
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		nstest.In(t, ns, func() {
			for range 50 {
				if err := makeTable(false, addresses(5000)); !errors.Is(err, unix.EEXIST) {
					t.Errorf("error %v, want %v", err, unix.EEXIST)
				}
			}
		})
		close(done)
	})
	nstest.In(t, ns, func() {
		s, err := dial()
		for err == nil {
			select {
			case <-done:
				return
			default:
				err = s.whole()
			}
		}
		t.Error(err)
	})
	wg.Wait()
}
