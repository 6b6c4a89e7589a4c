package cni

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/netns"
)

// add is ADD of every mode: plan, claim, add, answer.
func (p *plugin) add(r *Request) error {
	a, err := r.Adding()
	if err != nil {
		return p.known(r, err)
	}
	p.did("prepare")
	a.Did = p.did
	if p.Unrecorded {
		err = attach.AddUnrecorded(p.ctx, a)
	} else {
		err = p.record(a)
	}
	if err != nil {
		return err
	}
	if err := r.print(p.out, a); err != nil {
		if !errors.Is(err, errNoAddress) {
			err = fmt.Errorf("write result: %w", err)
		}
		return errors.Join(err, p.takeBack(a))
	}
	p.did("answer")
	return nil
}

// Adding plans the ADD and looks at the host where that needs no claim. Nothing is
// made or written.
func (r *Request) Adding() (*attach.Adding, error) {
	cookie, err := r.netnsCookie()
	if err != nil {
		return nil, err
	}
	steps, err := r.Plan()
	if err != nil {
		return nil, err
	}
	a := &attach.Attachment{
		Key: r.key(attach.Main), Plugin: r.mode.Name, Netns: r.Netns, Cookie: cookie, MountNS: netns.MountNamespace(),
		Created: time.Now().UTC().Truncate(time.Millisecond), Args: r.Args, MAC: r.wantedMAC,
		Connected: r.Args[ArgConnected] != "", Steps: steps,
	}
	switch {
	case r.mode.Leases:
		a.Role = attach.IPAM
	case r.Chained():
		a.Role, a.Addresses = attach.Chained, r.prev.addresses()
	}
	return &attach.Adding{Attachment: a, Warned: Warn}, nil
}

// record claims and adds. Who holds what is wanted, and is gone, is deleted first.
func (p *plugin) record(a *attach.Adding) error {
	s := p.store()
	err := s.Add(p.ctx, a)
	for range 64 { // each time another one
		if err == nil || !makeRoom(p.ctx, s, a, err) {
			break
		}
		err = s.Add(p.ctx, a)
	}
	return err
}

// takeBack deletes an attachment whose result nobody has got.
func (p *plugin) takeBack(a *attach.Adding) error {
	if p.Unrecorded {
		return nil
	}
	return p.store().Del(context.WithoutCancel(p.ctx), a.Key)
}

// known says that the container is attached already, where a second ADD of a mode that
// joins a namespace found the first one's work and took it for a wrong request.
func (p *plugin) known(r *Request, err error) error {
	if !p.Joins {
		return err
	}
	if _, unknown := p.store().Get(p.ctx, r.key(attach.Main)); unknown == nil {
		return fmt.Errorf("%s: %w", r.key(attach.Main), attach.ErrExists)
	}
	return err
}
