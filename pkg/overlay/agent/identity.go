package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
)

// identify finds out who this host is, or decides it. A disk that was moved to, or
// copied for, another machine is not trusted before the store has said that nobody
// else is this node.
func (a *Agent) identify() error {
	hardware := hardware()
	id, err := overlay.ReadIdentity(a.DataDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		id = overlay.Identity{Node: a.Node, Token: rand.Text(), Hardware: hardware}
		if err := id.Write(a.DataDir); err != nil {
			return err
		}
	case err != nil:
		return err
	case id.Node != a.Node:
		return fmt.Errorf("node-name: %q: this host is node %q, whose blocks its containers use: start it under that name, "+
			"or remove its containers, 'berth node rm %s' and %s", a.Node, id.Node, id.Node, filepath.Join(a.DataDir, "node.json"))
	case id.Hardware != hardware:
		a.refused = "the host's identity comes from another machine, and the store has not confirmed yet that it is this one's"
	default:
		a.refused = id.Refused
	}
	a.id = id
	return a.enter()
}

// hardware names the machine: its firmware's number, as far as it has one.
func hardware() string {
	for _, path := range []string{"/sys/class/dmi/id/product_uuid", "/proc/device-tree/serial-number"} {
		if data, err := os.ReadFile(path); err == nil {
			return strings.Trim(string(data), "\x00\n ")
		}
	}
	return ""
}

// register has the store know this host, and again when the host's address changes
// or the store forgets it.
func (a *Agent) register(ctx context.Context) {
	lost := func(err error) {
		a.do(ctx, func() { a.lose(err) })
	}
	const soonest, latest = 500 * time.Millisecond, 15 * time.Second
	wait := soonest
	for ctx.Err() == nil {
		select {
		case <-a.again: // what it is about is in what follows
		default:
		}
		var node overlay.Node
		var id overlay.Identity
		var decided bool
		if !a.do(ctx, func() { node, id, decided = a.node(), a.id, a.decided() }) {
			return
		}
		if !decided {
			select {
			case <-ctx.Done():
			case <-a.again:
			}
			continue
		}
		err := a.Store.Register(ctx, node, a.instance, id.Registered, lost)
		switch {
		case err == nil:
			wait = soonest
			a.do(ctx, a.accepted)
			select {
			case <-ctx.Done():
			case <-a.again:
			}
			continue
		case ctx.Err() != nil:
			return
		case errors.Is(err, overlay.ErrRemoved):
			a.do(ctx, a.removed)
			continue
		}
		had := false
		a.do(ctx, func() { a.deny(err); had = a.count.registrations > 0 })
		var conflict *overlay.ConflictError
		if errors.As(err, &conflict) && conflict.Cloned && !had {
			// A copy must not take the name when the other host's agent starts again.
			<-ctx.Done()
			return
		}
		sleep(ctx, jitter(wait))
		wait = min(2*wait, latest)
	}
}

// decided tells whether the host knows what to tell the store of itself: the store has
// said which family its nodes use, and the host has it, or has waited for it.
func (a *Agent) decided() bool {
	return a.fresh && !(a.waits() && a.underlay.family() != a.lacks.family)
}

// node is what the store shall know of this host.
func (a *Agent) node() overlay.Node {
	return overlay.Node{Name: a.id.Node, Token: a.id.Token, Address: a.underlay.addr, MTU: a.underlay.mtu, PublicKey: a.publicKey(), NextKey: a.nextKey()}
}

// accepted: the name is ours.
func (a *Agent) accepted() {
	a.count.registrations++
	a.registered = true
	a.Log.Info("the store knows this host", "node", a.id.Node, "address", a.underlay.addr)
	a.id.Registered, a.id.Hardware = true, hardware()
	a.confirm()
	a.claimAll()
}

// deny refuses the host when the name is another one's.
func (a *Agent) deny(err error) {
	var conflict *overlay.ConflictError
	if !errors.As(err, &conflict) {
		a.Log.Warn("register at the store", "error", err)
		return
	}
	a.registered = false
	a.refuse(err.Error())
}

// refuse stops the use of the blocks. What runs is left alone.
func (a *Agent) refuse(why string) {
	if a.refused != why {
		a.Log.Error("this host is refused: nothing can be added on it", "error", why)
	}
	a.refused, a.unconfirmed = why, false
	if a.id.Refused != why { // a restart while the store is away is no pardon
		a.id.Refused = why
		a.writeIdentity()
	}
	a.reconcile()
}

// removed: somebody gave the host's name and blocks back. It comes again as a new
// host, under a new token, and claims what is still free of its blocks.
func (a *Agent) removed() {
	a.Log.Warn("this host was removed from the store: it comes again as a new one", "node", a.id.Node)
	a.id.Token, a.id.Registered = rand.Text(), false
	a.writeIdentity()
}

// lose: the store says, later, that the name is not ours any more.
func (a *Agent) lose(err error) {
	a.Log.Error("the store does not take this host for what it was", "error", err)
	a.registered = false
	a.reregister()
}

func (a *Agent) reregister() {
	select {
	case a.again <- struct{}{}:
	default: // it will anyway
	}
}
