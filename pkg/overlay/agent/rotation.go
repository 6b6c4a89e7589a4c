package agent

import (
	"time"

	"github.com/berth-cni/berth/pkg/overlay/wireguard"
)

// A host's key is rotated without loss by a detour. WireGuard takes a block's packets from
// one key alone, so both keys are in use on two devices:
//
//  1. The host announces the next key. All hosts make a second device of each encrypted
//     network; the host's own has the next key.
//  2. Each host whose second device has shaken hands with another's sends to that one by
//     it, by routes to the halves of its blocks, which are better than those to the blocks.
//     It takes from both.
//  3. Once nobody sends by the first device any more, the host gives it the next key, and
//     announces that. Each host that has shaken hands by it takes back its routes.
//  4. Once nobody sends by the second device any more, the host ends the rotation, and all
//     delete it.
//
// A host that does not answer is waited for, as long as it is alive.

const (
	rotationEvery = time.Second
	// rest is how long a step of a rotation has to hold before the next one: the store has
	// told everybody by then.
	rest = 3 * time.Second
	// lives is how old a session is at most: it is renewed every two minutes while the
	// keepalives go (REKEY_AFTER_TIME of the WireGuard paper, section 6.1).
	lives = 3 * time.Minute
	// idle is what comes with an empty packet, in bytes.
	idle = 32
)

// rotation is that of the host's own key.
type rotation struct {
	next      wireguard.Key // zero: none
	announced bool          // to the store, once no other host's is
	quiet     time.Time     // since when all hosts have made the step; zero: they have not
	polling   bool
}

// nextKey is what the store shall know; empty when there is none.
func (a *Agent) nextKey() string {
	if !a.rotation.announced {
		return ""
	}
	return a.rotation.next.Public().String()
}

// known tells whether the store knows of the host's own rotation.
func (r *rotation) known(a *Agent) bool {
	return r.next != wireguard.Key{} && a.state.Nodes[a.id.Node].NextKey == r.next.Public().String()
}

// rotate takes every rotation a step further, the host's own and others'.
func (a *Agent) rotate() {
	if !a.fresh || a.keyErr != nil {
		return
	}
	r := &a.rotation
	if r.next == (wireguard.Key{}) {
		var err error
		if r.next, r.announced, err = wireguard.LoadNext(a.DataDir); err != nil {
			a.Log.Error("rotate the host's key", "error", err)
			return
		}
	}
	a.announce()
	busy := r.next != wireguard.Key{}
	for _, name := range a.names() {
		if err := a.detour(a.nets[name]); err != nil {
			a.Log.Error("rotate keys", "network", name, "error", err)
		}
		busy = busy || a.nets[name].detour != nil
	}
	a.advance()
	if !busy || r.polling {
		return
	}
	r.polling = true
	a.workers.Go(func() {
		sleep(a.ctx, rotationEvery)
		a.do(a.ctx, func() { r.polling = false; a.rotate() })
	})
}

// announce has the store know the next key, one host at a time: a key that is in use on
// the second devices does not change.
func (a *Agent) announce() {
	r := &a.rotation
	if r.announced || !a.registered || r.next == (wireguard.Key{}) {
		return
	}
	for name, n := range a.state.Nodes {
		if n.NextKey != "" && name != a.id.Node {
			return
		}
	}
	if err := wireguard.Announce(a.DataDir); err != nil {
		a.Log.Error("rotate the host's key", "error", err)
		return
	}
	r.announced = true
	a.Log.Info("the host's key is rotated", "from", a.publicKey(), "to", a.nextKey())
	a.reregister()
}

// advance takes the rotation of the host's own key to its next step, once all have made
// this one.
func (a *Agent) advance() {
	r := &a.rotation
	if !r.known(a) {
		return
	}
	replaced := a.key == r.next
	if node := a.state.Nodes[a.id.Node]; replaced != returning(&node) {
		return // the store does not say so yet
	}
	if waits := a.waitsFor(replaced); waits != "" {
		a.Log.Debug("the rotation of the host's key waits", "node", waits, "replaced", replaced)
		r.quiet = time.Time{}
		return
	}
	if r.quiet.IsZero() {
		r.quiet = time.Now()
	}
	if time.Since(r.quiet) < rest {
		return
	}
	r.quiet = time.Time{}
	if replaced {
		if err := wireguard.EndRotation(a.DataDir); err != nil {
			a.Log.Error("end the rotation of the host's key", "error", err)
			return
		}
		r.next, r.announced = wireguard.Key{}, false
		a.Log.Info("the host's key was rotated", "key", a.publicKey())
	} else {
		if err := wireguard.Replace(a.DataDir, r.next); err != nil {
			a.Log.Error("replace the host's key", "error", err)
			return
		}
		a.key = r.next
	}
	a.reregister()
	a.reconcile()
}

// waitsFor is a node that has not made the step: it is not sent to by the device that is to
// be used, or still sends by the other one. Empty: there is none.
func (a *Agent) waitsFor(replaced bool) (waits string) {
	for _, name := range a.names() {
		n := a.nets[name]
		if n.detour == nil {
			continue
		}
		first, err := n.tunnel.Heard(n.def().Device())
		second, err2 := n.detour.tunnel.Heard(n.def().NextDevice())
		if err != nil || err2 != nil {
			return a.id.Node
		}
		for node, key := range n.detour.keys {
			of := a.state.Nodes[node]
			left := first[peerKey(&of)]
			_, alive := a.state.Alive[node]
			alive = alive || time.Since(left.Handshake) < lives
			if replaced {
				left = second[key]
			}
			more := left.Bytes-n.detour.heard[node] > idle
			n.detour.heard[node] = left.Bytes
			if alive && len(a.state.BlocksOf(name, node)) > 0 && (n.detour.over[node] == replaced || more) {
				waits = node
			}
		}
	}
	return waits
}
