package agent

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/wireguard"
)

// loadKey reads the host's key for encrypted networks, or makes it. Without one the other
// networks work all the same.
func (a *Agent) loadKey() {
	if a.key, a.keyErr = wireguard.LoadKey(a.DataDir); a.keyErr != nil {
		a.Log.Error("the host's WireGuard key cannot be used: it takes part in no encrypted network", "error", a.keyErr)
	}
	a.rotation.next, a.rotation.announced, _ = wireguard.LoadNext(a.DataDir) // an error is told when it is looked at again
}

// retryKey takes the host's key once people have mended its file. One that could be used is
// replaced by a rotation alone.
func (a *Agent) retryKey() {
	if a.keyErr == nil {
		return
	}
	key, err := wireguard.LoadKey(a.DataDir)
	if err != nil {
		a.keyErr = err
		return
	}
	a.Log.Info("the host's WireGuard key can be used", "key", key.Public().String())
	a.key, a.keyErr = key, nil
	a.reregister()
	a.reconcile()
}

// publicKey is what the other hosts know this one by; empty when it has no key.
func (a *Agent) publicKey() string {
	if a.keyErr != nil {
		return ""
	}
	return a.key.Public().String()
}

// encrypt returns what carries an encrypted network, with the keys as they are now. The
// network is confined to it before anything can be sent.
func (a *Agent) encrypt(n *network) (*wireguard.Tunnel, error) {
	if err := confine(n).Add(a.ctx, nil); err != nil {
		return nil, err
	}
	if a.keyErr != nil {
		return nil, a.keyErr
	}
	secret := a.readPreshared(n)
	if n.secret = &secret; secret.problem != "" {
		return nil, errors.New(secret.problem)
	}
	if n.tunnel == nil {
		n.tunnel = &wireguard.Tunnel{Command: a.WireGuard}
	}
	n.tunnel.Set(a.key, secret.key, n.def().UDPPort())
	return n.tunnel, nil
}

// presharedFile is what a network's pre-shared key was read as.
type presharedFile struct {
	key     wireguard.Key // zero: there is none
	problem string        // why it cannot be used
}

func (a *Agent) readPreshared(n *network) (f presharedFile) {
	var err error
	if f.key, err = wireguard.LoadPreshared(a.DataDir, n.def().Name); err != nil {
		f.problem = err.Error()
	}
	return f
}

// followPreshared has networks looked at again whose pre-shared key people have changed.
func (a *Agent) followPreshared() {
	for _, n := range a.nets {
		if n.secret != nil && *n.secret != a.readPreshared(n) {
			n.again = true
		}
	}
}

// syncAgain compares an encrypted network again where the tunnel has left something for
// later.
func (a *Agent) syncAgain(n *network) {
	if n.tunnel == nil {
		return
	}
	wait := n.tunnel.Waits()
	if wait == 0 {
		return
	}
	a.workers.Go(func() {
		sleep(a.ctx, wait)
		a.do(a.ctx, func() {
			if n.plane != nil && n.tunnel.Waits() > 0 {
				a.sync(n)
			}
		})
	})
}

// confine is the rule that an encrypted network goes by.
func confine(n *network) *firewall.Confined {
	def := n.def()
	return &firewall.Confined{Device: def.Device(), Next: def.NextDevice(), Bridge: def.Bridge(), Group: attach.Group(def.Name), Subnets: def.Subnets}
}

// confined are the host's encrypted networks: also those without a device, and those that
// went and have containers yet.
func (a *Agent) confined() (all []firewall.Confined) {
	for _, n := range a.nets {
		if n.def().Encrypted {
			all = append(all, *confine(n))
		}
	}
	return all
}

// peerKey is a node's public key; zero for none.
func peerKey(n *overlay.Node) wireguard.Key {
	k, _ := wireguard.ParseKey(n.PublicKey) // valid, or empty
	return k
}

// keyless are the nodes that own blocks of an encrypted network and have no public key:
// nothing is sent to them, nor taken from them.
func (a *Agent) keyless(n *network) (nodes []string) {
	if !n.def().Encrypted {
		return nil
	}
	for node := range a.state.Owners(n.def().Name) {
		if node != a.id.Node && a.state.Nodes[node].PublicKey == "" {
			nodes = append(nodes, node)
		}
	}
	slices.Sort(nodes)
	return nodes
}

// keylessProblem says so; empty when there is none.
func (a *Agent) keylessProblem(n *network) string {
	nodes := a.keyless(n)
	if len(nodes) == 0 {
		return ""
	}
	const most = 5
	text := strings.Join(nodes[:min(most, len(nodes))], ", ")
	if len(nodes) > most {
		text += fmt.Sprintf(" and %d more", len(nodes)-most)
	}
	return "no public key is known of " + text + ", which cannot be reached: the agent there knows no encrypted networks, or cannot use its key (berth doctor there says why)"
}
