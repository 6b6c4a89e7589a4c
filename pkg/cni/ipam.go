package cni

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/ipam"
)

// MainIPAM runs the built-in IPAM as a plugin that other main plugins delegate to
// (SPEC section 4). It does not return. Its records have no steps and no
// interface: only the lease.
func MainIPAM() {
	p := &ipamPlugin{plugin{trace: newTrace(), Mode: Mode{Name: ipam.BuiltInType, Config: func() Config { return &ipamConfig{} }}}}
	p.main(verbs{add: p.add, del: p.del, check: p.check, gc: p.gc, status: p.status})
}

type ipamPlugin struct{ plugin }

// ipamConfig is all of the configuration that the IPAM reads.
type ipamConfig struct{ Conf }

// Plan is not asked for: an IPAM makes no interface.
func (*ipamConfig) Plan(*Request) (*Plan, error) { return &Plan{}, nil }

// load validates the ipam section.
func (p *ipamPlugin) load(r *Request) error {
	r.leaseOnly = true
	if _, err := r.Plan(); err != nil {
		return err
	}
	if !r.IPAM.BuiltIn() {
		return configError{fmt.Errorf("ipam.type: %q: want %q and a subnet", r.IPAM.Type, ipam.BuiltInType)}
	}
	return nil
}

func (p *ipamPlugin) add(r *Request) error {
	if err := p.load(r); err != nil {
		return err
	}
	add := &addition{Request: r, plan: &Plan{}, prev: &previous{index: -1}, a: &attach.Adding{Attachment: &attach.Attachment{
		Key: r.key(attach.IPAM), Plugin: p.Name, Netns: r.Netns, Created: time.Now().UTC().Truncate(time.Millisecond), Args: r.Args,
	}}}
	s := p.store()
	if err := s.Add(p.ctx, add.a, add.lease); err != nil {
		return err
	}
	if err := add.print(os.Stdout); err != nil {
		return errors.Join(fmt.Errorf("write result: %w", err), s.Del(p.ctx, add.a.Key))
	}
	return nil
}

func (p *ipamPlugin) del(r *Request) error {
	err := p.store().Del(p.ctx, r.key(attach.IPAM))
	if errors.Is(err, attach.ErrNotFound) {
		return nil
	}
	return err
}

func (p *ipamPlugin) check(r *Request) error {
	a, err := p.store().Get(p.ctx, r.key(attach.IPAM))
	if err != nil {
		return err
	}
	prev, err := r.previous()
	if err != nil || prev.result == nil {
		return err
	}
	var have []string
	for _, ip := range prev.result.IPs {
		have = append(have, fromIPNet(ip.Address).String())
	}
	for _, addr := range a.Addresses {
		if !slices.Contains(have, addr.Prefix.String()) {
			return fmt.Errorf("%w: prevResult lacks the leased address %s", errMissing, addr.Prefix)
		}
	}
	return nil
}

func (p *ipamPlugin) gc(r *Request) error { return p.collect(r, attach.IPAM) }

func (p *ipamPlugin) status(r *Request) error {
	if err := p.load(r); err != nil {
		return unavailable(err)
	}
	return p.freeAddress(r)
}
