package host

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/host/hosttest"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestKeepIPTables: rules of iptables that somebody flushed are put back at the next look,
// whichever table of whichever family it was.
func TestKeepIPTables(t *testing.T) {
	w := newHost(t)
	for _, c := range []string{"c1", "c2"} {
		if err := w.Store.Del(t.Context(), attach.Key{Network: "web", Container: c, IfName: "eth0"}); err != nil {
			t.Fatal(err)
		}
	}
	w.Backend = firewall.IPTables
	w.Container(3, false)
	a := w.Container(4, false)
	var log strings.Builder
	k := &Keeper{Records: w.Store, Log: slog.New(slog.NewTextHandler(&log, nil))}
	k.compare(t.Context(), true)
	if log.Len() > 0 {
		t.Errorf("nothing was wrong, and the keeper says:\n%s", &log)
	}
	for _, damage := range []string{"nft flush ruleset", "iptables -t nat -F", "ip6tables -F", "ip6tables -t nat -F"} {
		log.Reset()
		w.Sh(damage)
		if attach.Check(t.Context(), a) == nil {
			t.Fatalf("%s: nothing is wrong", damage)
		}
		k.compare(t.Context(), true)
		if err := attach.Check(t.Context(), a); err != nil || strings.Count(log.String(), "a table of iptables was flushed") != 1 {
			t.Errorf("%s: %v\n%s", damage, err, &log)
		}
	}
}

// TestKeepSpoof: what holds containers to their addresses is put back after somebody
// deleted it, or a part of it.
func TestKeepSpoof(t *testing.T) {
	w := newHost(t)
	w.More = []attach.Step{&firewall.Spoof{}}
	a := w.Container(3, false)
	var log strings.Builder
	k := &Keeper{Records: w.Store, Log: slog.New(slog.NewTextHandler(&log, nil))}
	k.compare(t.Context(), true)
	if log.Len() > 0 {
		t.Errorf("nothing was wrong, and the keeper says:\n%s", &log)
	}
	for _, damage := range []string{"nft delete table bridge berth", "nft flush table bridge berth", "nft flush chain bridge berth prerouting"} {
		log.Reset()
		w.Sh(damage)
		if attach.Check(t.Context(), a) == nil {
			t.Fatalf("%s: nothing is wrong", damage)
		}
		k.compare(t.Context(), false)
		if err := attach.Check(t.Context(), a); err != nil || strings.Count(log.String(), "put back") != 1 {
			t.Errorf("%s: %v\n%s", damage, err, &log)
		}
	}
}

// look is a step at whose time somebody looks at the host.
type look struct{ at func() }

func (*look) Kind() string                                    { return "look" }
func (l *look) Add(context.Context, *attach.Adding) error     { l.at(); return nil }
func (*look) Del(context.Context, *attach.Attachment) error   { return nil }
func (*look) Check(context.Context, *attach.Attachment) error { return nil }

// TestKeepFirst: what the first container of a host has yet to make is not missing, nor was
// it deleted. After the ADD it is kept.
func TestKeepFirst(t *testing.T) {
	nstest.Host(t)
	w := hosttest.Empty(t)
	w.Store = attach.New("", func(kind string) attach.Step {
		if kind == "look" {
			return &look{}
		}
		return cni.Decode(kind)
	})
	var log strings.Builder
	k := &Keeper{Records: w.Store, Log: slog.New(slog.NewTextHandler(&log, nil))}
	looks := 0
	step := &look{func() { looks++; k.compare(t.Context(), true) }}
	w.First, w.More = []attach.Step{step}, []attach.Step{step, &firewall.Spoof{}}
	a := w.Container(3, false)
	if k.compare(t.Context(), false); looks != 2 || log.Len() > 0 {
		t.Errorf("looked %d times during the ADD, and says:\n%s", looks, &log)
	}
	w.Sh("nft delete table bridge berth && ip link del br-web")
	k.compare(t.Context(), false)
	if err := attach.Check(t.Context(), a); err != nil || strings.Count(log.String(), "deleted: put back") != 1 || !strings.Contains(log.String(), "bridge br-web") {
		t.Errorf("%v\n%s", err, &log)
	}
}

// called are names that a test keeps.
type called map[attach.Key]bool

func (c called) Has(k attach.Key) bool { return c[k] }
func (c called) Forget(k attach.Key)   { delete(c, k) }
func (c called) Know([]names.Network)  {}

// TestKeepNames: the names of a container that was killed go without its DEL, those of one
// that lives stay.
func TestKeepNames(t *testing.T) {
	w := newHost(t)
	dead, alive := w.Container(3, false), w.Container(4, false)
	known := called{dead.Key: true, alive.Key: true}
	var log strings.Builder
	k := &Keeper{Records: w.Store, Names: known, Log: slog.New(slog.NewTextHandler(&log, nil))}
	k.compare(t.Context(), true)
	if len(known) != 2 {
		t.Fatalf("all live, and known are %v", known)
	}
	w.Sh("ip netns del " + filepath.Base(dead.Netns))
	for range 50 { // the kernel ends a namespace a moment after its last path
		if k.compare(t.Context(), true); !known[dead.Key] {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if known[dead.Key] || !known[alive.Key] || strings.Count(log.String(), "names forgotten") != 1 {
		t.Errorf("known are %v\n%s", known, &log)
	}
}
