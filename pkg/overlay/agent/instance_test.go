package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
)

// booted is a host with a block, as it is after it has booted, or as a copy of its disk is
// on another one. Its registration does not come to an end before the test lets it.
func booted(t *testing.T) *host {
	h := newHost(t)
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}})
	h.start()
	h.until("ready", func() bool { return h.agent.Status().Ready && h.usable() == nil })
	h.stop()
	if err := os.Remove(overlay.InstancePath(h.conf.Records.Dir())); err != nil {
		t.Fatal(err)
	}
	h.hold(errors.New("another life has not ended yet"))
	if h.usable() == nil {
		t.Error("blocks are used after a boot before an agent has run")
	}
	return h
}

func (h *host) hold(err error) {
	h.store.Lock()
	defer h.store.Unlock()
	h.store.refuse = err
}

// usable tells whether an ADD could be.
func (h *host) usable() error { return h.local("blue").Ready(h.conf.Records.Dir()) }

// never fails the test when an ADD could be within a second.
func (h *host) never(what string) {
	h.t.Helper()
	for range 1000 {
		if h.usable() == nil {
			h.t.Fatalf("%s: blocks are used", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func alive(address string) overlay.Alive {
	return overlay.Alive{Node: "a", Instance: "another", Address: netip.MustParseAddr(address), Since: time.Unix(1, 0)}
}

// The node lives on another host: this one has a copy of its disk.
func TestBootedCopy(t *testing.T) {
	h := booted(t)
	h.store.put(overlay.Update{Alive: []overlay.Alive{alive("192.0.2.99")}})
	h.start()
	h.never("a copy")
	h.until("refused", func() bool {
		s := h.agent.Status()
		return !s.Ready && strings.Contains(s.Refused, `node "a" lives at 192.0.2.99 since`) && strings.Contains(h.local("blue").Refused, "a copy")
	})
	h.stop()
	h.store.setAway(true) // no pardon
	h.start()
	h.until("runs", func() bool { return h.agent.Status().Store.Away })
	h.never("a copy, and the store is away")
	h.store.setAway(false)
	h.hold(nil)
	h.until("registered after all", func() bool { return h.usable() == nil && h.agent.Status().Ready })
}

// Nobody else lives: the registration decides.
func TestBooted(t *testing.T) {
	h := booted(t)
	h.start()
	h.never("not registered yet")
	h.hold(nil)
	h.until("registered", func() bool { return h.usable() == nil && h.agent.Status().Ready })
}

// The life that has not ended yet is this host's own, before it booted.
func TestBootedSoon(t *testing.T) {
	h := booted(t)
	h.store.put(overlay.Update{Alive: []overlay.Alive{alive("192.0.2.1")}})
	h.start()
	h.until("used", func() bool { return h.usable() == nil })
}

// A host that boots while the store is away, or without a network, works. When the store is
// back, and the node lives elsewhere, it is refused.
func TestBootedAlone(t *testing.T) {
	for _, network := range []bool{true, false} {
		t.Run(fmt.Sprint("network ", network), func(t *testing.T) {
			h := booted(t)
			h.store.setAway(true)
			if !network {
				run(t, "ip route del default")
			}
			h.start()
			for range 10 { // one with no network waits for some seconds
				if h.usable() != nil {
					time.Sleep(time.Second)
				}
			}
			if err := h.usable(); err != nil {
				t.Fatal(err)
			}
			if network {
				h.store.put(overlay.Update{Alive: []overlay.Alive{alive("192.0.2.99")}})
				h.store.setAway(false)
				h.until("refused", func() bool { return h.usable() != nil })
			}
		})
	}
}

// An agent that starts again in the same run of the host refuses nothing, whoever lives, nor
// does the first of this version.
func TestStartedAgain(t *testing.T) {
	h := newHost(t)
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}})
	h.start()
	h.until("ready", func() bool { return h.agent.Status().Ready && h.usable() == nil })
	h.stop()
	h.hold(errors.New("slow"))
	for _, earlier := range []bool{false, true} {
		if earlier {
			id, err := overlay.ReadIdentity(h.conf.DataDir)
			if err != nil {
				t.Fatal(err)
			}
			id.Instance = ""
			l := h.local("blue")
			l.Instance = ""
			if err := errors.Join(id.Write(h.conf.DataDir), l.Write(h.conf.DataDir)); err != nil {
				t.Fatal(err)
			}
		}
		h.start()
		for range 500 {
			if err := h.usable(); err != nil {
				t.Fatalf("earlier version %v: %v", earlier, err)
			}
			time.Sleep(time.Millisecond)
		}
		h.stop()
	}
}
