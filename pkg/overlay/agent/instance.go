package agent

import (
	"crypto/rand"
	"fmt"
	"os"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
)

// A host that has booted may be another one that has a copy of the disk. Its blocks are
// refused until the store has registered it, or says that this node lives nowhere else
// but at this host's own address, or is away: a host that boots without the store works.
// An agent that starts again in the same run of the host refuses nothing.

const unconfirmed = "this host has booted, and the store has not said yet that no other host has its identity"

// enter finds out which run of the host this is, and whether the blocks are confirmed in it.
func (a *Agent) enter() error {
	was, err := overlay.Instance(a.StateDir)
	if err != nil {
		return err
	}
	a.instance = was
	if was == "" {
		a.instance = rand.Text()
		if err := os.WriteFile(overlay.InstancePath(a.StateDir), []byte(a.instance), 0o600); err != nil {
			return fmt.Errorf("write down this run of the host: %w", err)
		}
	}
	earlier := a.id.Instance == "" && was != "" // an earlier version ran until now
	if a.refused == "" && a.id.Registered && a.id.Instance != a.instance && !earlier {
		a.refused, a.unconfirmed = unconfirmed, true
	}
	return nil
}

// confirm has the blocks used in this run of the host.
func (a *Agent) confirm() {
	a.refused, a.unconfirmed = "", false
	a.id.Refused, a.id.Instance = "", a.instance
	a.writeIdentity()
	for _, n := range a.nets {
		n.local.Instance = a.instance
	}
	if a.known {
		a.reconcile() // writes them down
		return
	}
	locals, err := overlay.ListLocal(a.DataDir)
	if err != nil {
		a.Log.Warn("read the host's networks", "error", err)
	}
	for _, l := range locals {
		l.Instance = a.instance
		if err := l.Write(a.DataDir); err != nil {
			a.Log.Error("write down what an ADD needs", "network", l.Network.Name, "error", err)
		}
	}
}

// elsewhere returns the life of this node that another host leads, as the store has it.
// One at this host's own address is this host before it booted.
func (a *Agent) elsewhere() (overlay.Alive, bool) {
	alive, lives := a.state.Alive[a.id.Node]
	return alive, lives && !a.registered && alive.Instance != a.instance && alive.Address != a.underlay.addr
}

// look judges by what the store says of this node's life, before it is registered.
func (a *Agent) look() {
	if a.refused != "" && !a.unconfirmed { // by what is known already
		return
	}
	if alive, lives := a.elsewhere(); lives {
		a.refuse(fmt.Sprintf("node %q lives at %s since %s with this host's own identity: on another host, of whose disk this is a copy, "+
			"or this is that host, and it booted a moment ago; is it a copy, remove its node.json and start again with another --node-name",
			alive.Node, alive.Address, alive.Since.Format(time.RFC3339)))
	} else if _, lives := a.state.Alive[a.id.Node]; lives && a.unconfirmed {
		a.confirm()
	}
}

// cutOff has the blocks used though the store cannot say whose they are, unless it has.
func (a *Agent) cutOff() {
	if _, lives := a.elsewhere(); a.unconfirmed && !lives {
		a.Log.Warn("nobody says whether another host has this one's identity: its blocks are used")
		a.confirm()
	}
}

func (a *Agent) writeIdentity() {
	if err := a.id.Write(a.DataDir); err != nil {
		a.Log.Error("write down who this host is", "error", err)
	}
}
