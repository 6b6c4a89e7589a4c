// Package publish claims the host's ports for containers, and tells which process of the
// host listens on one. What translates a published port is a rule of package firewall.
package publish

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/berth-cni/berth/pkg/attach"
)

// Ports is the step that claims the ports to publish, and makes sure that no process
// of the host listens on one. [firewall.Rules] publishes what was claimed.
type Ports struct {
	attach.Claiming
	// Ports are those that the runtime asks for. The attachment has all of them, but
	// those that the container publishes on another network already.
	Ports []attach.Port
	// Gateways says that the gateways of the attachment's addresses are the host's own,
	// on a bridge that the first container of the network makes behind this step.
	Gateways bool
}

// TakenError: a process of the host listens on the port.
type TakenError struct {
	Port   attach.Port
	Holder string // "nginx (pid 812)"
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("%s is taken: %s listens on it", e.Port, e.Holder)
}

// Kind implements [attach.Step].
func (*Ports) Kind() string { return "ports" }

// Claim implements [attach.Claimer]. An [*attach.HeldError] when another container
// publishes a port.
func (p *Ports) Claim(tx *attach.Tx, a *attach.Adding) error {
	a.Ports, a.Waiting = nil, nil
	for _, port := range p.Ports {
		if err := claimPort(tx, a, port); err != nil {
			return err
		}
	}
	return nil
}

// claimPort claims one port, of each family by itself if another network of the
// container has one of them. A container on several networks publishes a port
// once: the first network keeps it, and the next gets it after that.
func claimPort(tx *attach.Tx, a *attach.Adding, p attach.Port) error {
	err := tx.ClaimPort(p, a.Key)
	var held *attach.HeldError
	if errors.As(err, &held) && held.Holder.Container == a.Container {
		if !p.HostIP.IsValid() {
			v4, v6 := p, p
			v4.HostIP, v6.HostIP = netip.IPv4Unspecified(), netip.IPv6Unspecified()
			return errors.Join(claimPort(tx, a, v4), claimPort(tx, a, v6))
		}
		a.Warn("%s is published to this container on network %s already", p, held.Holder.Network)
		a.Waiting = append(a.Waiting, p)
		return nil
	}
	if err != nil {
		return err
	}
	a.Ports = append(a.Ports, p)
	return nil
}

// Add implements [attach.Step]. A [*TakenError] when a process listens on a port, an
// error that wraps [ErrNotLocal] when its address is not one of this host's.
func (p *Ports) Add(_ context.Context, a *attach.Adding) error {
	var soon []netip.Addr
	if p.Gateways {
		for _, addr := range a.Addresses {
			soon = append(soon, addr.Gateway)
		}
	}
	for _, port := range a.Ports {
		holder, err := Listener(port, a.Container, soon...)
		if err != nil {
			return err
		}
		if holder != "" {
			return &TakenError{port, holder}
		}
	}
	return nil
}
