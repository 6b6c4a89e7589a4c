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
	const version, sum = "publish_12", 0xb6d34d9a
	all := crc32.NewIEEE()
	for _, s := range sets() {
		fmt.Fprintln(all, s.Name, s.Key.Name, s.Data.Name)
	}
	for _, c := range chains() {
		name := c.Name
		if name == publish {
			name = "publish"
		}
		fmt.Fprintln(all, name, c.Kind, len(c.Rules), c.Jumps)
		if c.Hook != nil {
			fmt.Fprintln(all, *c.Hook, *c.Priority)
		}
		for _, exprs := range c.Rules {
			for _, e := range exprs {
				if v, ok := e.(*expr.Verdict); ok && v.Chain == publish {
					e = &expr.Verdict{Kind: v.Kind}
				}
				data, err := expr.Marshal(inet.Family, e)
				if err != nil {
					t.Fatal(err)
				}
				all.Write(data)
			}
		}
	}
	if users := natChains()[0].Users(); users != publishUsers {
		t.Errorf("publishUsers is %d, and the chain has %d", publishUsers, users)
	}
	if publish != version || all.Sum32() != sum {
		t.Errorf("the table is %s with sum %#x, this test knows %s with %#x", publish, all.Sum32(), version, sum)
	}
}

// on makes one container of a bridge, with a port.
func on(r *Rules, number int) *attach.Attachment {
	a := benchAttachment(number, r)
	a.Created = time.Unix(int64(number), 0)
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
			for i := range 3 {
				if i == 1 {
					run(t, damage)
					if r.Check(t.Context(), all[0]) == nil {
						t.Error("Check misses nothing")
					}
				}
				a := on(r, i+1)
				all = append(all, a)
				if err := r.Add(t.Context(), &attach.Adding{Attachment: a, All: recordsOf(&all)}); err != nil {
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
	all = append(all,
		on(&Rules{Backend: NFTables, Bridge: "br1", Internal: true}, 1),
		on(&Rules{Backend: NFTables, Bridge: "br1", Isolate: true}, 3),
		on(&Rules{Backend: NFTables, Bridge: "br1", NoICC: true}, 2))
	other := &Rules{Backend: NFTables, Bridge: "br2"}
	if err := other.Add(t.Context(), &attach.Adding{Attachment: on(other, 4), All: recordsOf(&all)}); err != nil {
		t.Fatal(err)
	}
	if err := RulesOf(all[1]).Check(t.Context(), all[1]); err != nil {
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
		if err := r.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
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
			gone, deleting, brief := on(r, 2), on(r, 3), on(alone, 4)
			late, reuser, heir := on(r, 5), on(r, 6), on(r, 7)
			reuser.Ports, heir.Addresses = deleting.Ports, gone.Addresses
			add := func(all ...*attach.Attachment) { // as those do that find the table
				s, err := dial()
				if err == nil {
					err = s.Write(elementsOf(all))
				}
				if err != nil {
					t.Error(err)
				}
			}
			me := on(r, 1)
			lists, replaced := 0, damage != "nft flush ruleset"
			if replaced {
				lists-- // for the attempt that finds a table
			}
			list := func(context.Context) ([]*attach.Attachment, error) {
				lists++
				switch lists {
				case 0:
				case 1:
					if replaced {
						add(late, reuser) // they go with the old table
					}
				case 2:
					deleting.Deleting = true
					if !replaced {
						add(late, reuser)
					}
					defer add(heir) // before the address of the one that is gone is removed
					return []*attach.Attachment{me, deleting, late, reuser, brief}, nil
				default:
					return []*attach.Attachment{me, deleting, late, reuser, heir}, nil
				}
				return []*attach.Attachment{me, gone, deleting}, nil
			}
			if err := inet.Make(false, nil); err != nil { // there is something to damage
				t.Fatal(err)
			}
			run(t, damage)
			if err := r.Add(t.Context(), &attach.Adding{Attachment: me, All: list}); err != nil {
				t.Fatal(err)
			}
			for _, a := range []*attach.Attachment{me, late, reuser, heir} {
				if err := r.Check(t.Context(), a); err != nil {
					t.Error(err)
				}
			}
			if left := linesWith(t, gone.Hash(), deleting.Hash(), brief.Hash(), "veth1"); left != "" {
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
		if err := inet.Make(false, nil); err != nil {
			t.Fatal(err)
		}
	})
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		nstest.In(t, ns, func() {
			for range 50 {
				if err := inet.Make(false, addresses(5000)); !errors.Is(err, unix.EEXIST) {
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
				err = s.Whole()
			}
		}
		t.Error(err)
	})
	wg.Wait()
}
