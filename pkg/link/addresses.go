package link

import (
	"context"
	"fmt"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"github.com/berth-cni/berth/pkg/link/ipvlan"
	"github.com/berth-cni/berth/pkg/link/macvlan"
)

// Addresses is the step that puts the addresses of a delegated IPAM on what the steps
// before it have made. Such an IPAM may work through the container's interface, as dhcp
// does, so that this is there before it, down and with its MAC, as the reference has it.
type Addresses struct{ attach.Claiming }

// Kind implements [attach.Step].
func (*Addresses) Kind() string { return "addresses" }

// Add implements [attach.Step]. What it puts on an interface goes with that, so that it
// has nothing to delete.
func (*Addresses) Add(ctx context.Context, a *attach.Adding) error {
	for _, s := range a.Steps {
		if s, ok := s.(addressed); ok {
			if err := s.Address(ctx, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// addressed is a step whose Add leaves out what needs the addresses while they are not
// known ([attach.Adding.Addressless]), and makes up for it here. Its Del does not tell
// one from the other.
type addressed interface {
	attach.Step
	Address(context.Context, *attach.Adding) error
}

// They are these.
var _ = []addressed{(*Forwarding)(nil), (*Bridge)(nil), (*Veth)(nil), (*Routed)(nil), (*macvlan.Interface)(nil), (*macvlan.HostShim)(nil),
	(*ipvlan.Interface)(nil)}

// Address does what Add has left out.
func (f *Forwarding) Address(ctx context.Context, a *attach.Adding) error { return f.Add(ctx, a) }

// Address puts the gateways on the bridge.
func (b *Bridge) Address(ctx context.Context, a *attach.Adding) error {
	c, err := iface.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	_, _, err = b.ready(ctx, c, a)
	return err
}

// Address configures the container's end, and the port where its options follow from the
// addresses.
func (v *Veth) Address(_ context.Context, a *attach.Adding) error {
	c, err := dialEnds(a.Attachment)
	if err != nil {
		return err
	}
	defer c.Close()
	if err = v.reconfigurePort(c.Conn, a.Attachment, addressless(a.Attachment)); err == nil {
		err = v.bringUp(c, a, true)
	}
	if err != nil {
		return fmt.Errorf("veth %s: %w", a.HostIfName(), err)
	}
	v.settle(c.Conn, a)
	return nil
}
