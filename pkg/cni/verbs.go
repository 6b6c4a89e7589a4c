package cni

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/firewall/reference"
	"github.com/berth-cni/berth/pkg/internal/schema"
	"github.com/berth-cni/berth/pkg/ipam"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/containernetworking/cni/pkg/types"
)

func (p *plugin) store() *attach.Store { return attach.New("", Decode) }

// del deletes what the record says, whatever the configuration, the namespace or
// the previous result say today.
func (p *plugin) del(r *Request) error {
	var errs []error
	var last error
	for _, role := range p.roles() {
		last = p.store().Del(p.ctx, r.key(role))
		if errors.Is(last, attach.ErrDamaged) { // a runtime could never remove the container
			Warn("%v", last)
			last = p.store().DelDamaged(p.ctx, r.key(role), func() error { return p.delMarked(r, role) })
		}
		if !errors.Is(last, attach.ErrNotFound) {
			errs = append(errs, last)
		}
	}
	if errors.Is(last, attach.ErrNotFound) && !p.Leases {
		errs = append(errs, p.delUnknown(r))
	}
	return errors.Join(errs...)
}

// delUnknown deletes an attachment that there is no record of: what a delegated IPAM may
// hold for it, while the interface is there, what is found by its name, and what the
// reference plugins made, whose place ours have taken.
func (p *plugin) delUnknown(r *Request) error {
	var err error
	if d := r.delegate(); d != nil {
		err = d.Del(p.ctx, &attach.Attachment{Key: r.key(attach.Main), Netns: r.Netns})
	}
	err = errors.Join(err, link.Delete(r.key(attach.Main).HostIfName()))
	c, ok := r.config.(Replacer)
	if !ok {
		return err
	}
	alone, bad := link.Alone(r.Netns, r.IfName)
	return errors.Join(err, bad, p.delForeign(r, c.Replaces()),
		reference.Forget(p.ctx, reference.Owner{Network: r.Conf.Name, Container: r.ContainerID, IfName: r.IfName}, alone))
}

// delForeign deletes the interface that the reference made for the container. One that
// cannot be of this configuration is left (a runtime calls DEL, too, after an ADD that was
// refused since somebody else's interface has the name), and so is one that is not that of
// prevResult, or that an attachment of another network has. While the state file is damaged,
// and nothing tells who has it, it is left to end with its namespace.
func (p *plugin) delForeign(r *Request, kind link.ForeignKind) error {
	f, err := link.FindForeign(r.Netns, r.IfName, kind)
	if f == nil || err != nil {
		return err
	}
	if prev, err := r.previous(); err == nil && prev.index >= 0 {
		if mac := prev.result.Interfaces[prev.index].Mac; mac != "" && !strings.EqualFold(mac, f.MAC) {
			return nil
		}
	}
	all, err := p.store().List(p.ctx, "")
	if errors.Is(err, attach.ErrDamaged) {
		return nil
	}
	if err != nil && !errors.Is(err, attach.ErrUnreadable) {
		return err
	}
	for _, a := range all {
		if a.IfName == f.IfName && (a.Netns == f.Netns || a.Cookie != 0 && a.Cookie == f.Cookie) {
			return nil
		}
	}
	return f.Delete()
}

// delMarked deletes an attachment whose record cannot be read: what has its key's hash for
// a name or a mark, and what the agent knows by its key.
func (p *plugin) delMarked(r *Request, role attach.Role) error {
	if p.Leases {
		return nil
	}
	k := r.key(role)
	errs := []error{firewall.Forget(p.ctx, k.Hash()), (&names.Register{}).Del(p.ctx, &attach.Attachment{Key: k})}
	if role == attach.Main {
		errs = append(errs, p.delUnknown(r), link.DeleteChild(p.ctx, &attach.Attachment{Key: k, Netns: r.Netns}))
	}
	return errors.Join(errs...)
}

// check compares the host with the record, and the container with what the runtime
// remembers (SPEC section 2, CHECK): the plugins behind this one, and who else has edited the
// runtime's result since, have changed it on purpose.
func (p *plugin) check(r *Request) error {
	a, err := p.attached(r)
	if errors.Is(err, attach.ErrNotFound) {
		return p.checkForeign(r, err)
	}
	if err != nil {
		return err
	}
	if !p.Leases && !p.Unrecorded {
		if err := r.sameNetns(a); err != nil {
			return err
		}
	}
	was := a.Netns
	a.Netns = r.Netns // the same namespace, perhaps by another path
	prev, err := r.previous(was)
	if err != nil {
		return err
	}
	for _, st := range a.Steps {
		switch st := st.(type) {
		case *ipam.Delegate:
			st.Conf = r.StdinData // with the prevResult that its CHECK wants
		case interface{ Expect(*link.Expected) }:
			st.Expect(prev.expected(a))
		}
	}
	if !p.Unrecorded {
		err = prev.compare(a, !p.Leases && !p.Joins)
	}
	err = errors.Join(err, attach.Check(p.ctx, a))
	if v, ok := r.config.(Verifier); ok {
		err = errors.Join(err, v.Verify(r, a))
	}
	if err != nil {
		return missing("%w", err)
	}
	return nil
}

// checkForeign compares a container that the reference made with what the runtime remembers;
// unknown is what is said of one that there is nothing of.
func (p *plugin) checkForeign(r *Request, unknown error) error {
	c, ok := r.config.(Replacer)
	if !ok {
		return unknown
	}
	prev, err := r.previous()
	if err != nil || !prev.chained() {
		return errors.Join(unknown, err)
	}
	f, err := link.FindForeign(r.Netns, r.IfName, c.Replaces())
	if err != nil || f == nil {
		return errors.Join(unknown, err)
	}
	err = f.Check(prev.expected(&attach.Attachment{}))
	if d := r.delegate(); d != nil {
		err = errors.Join(err, d.Check(p.ctx, &attach.Attachment{Key: r.key(attach.Main), Netns: r.Netns}))
	}
	if err != nil {
		return missing("%w", err)
	}
	return nil
}

// attached returns the record. A mode that keeps none is checked by its plan.
func (p *plugin) attached(r *Request) (*attach.Attachment, error) {
	if p.Unrecorded {
		a, err := r.Adding()
		if err != nil {
			return nil, err
		}
		return a.Attachment, nil
	}
	a, err := p.store().Get(p.ctx, r.key(p.roles()[len(p.roles())-1]))
	if errors.Is(err, attach.ErrNotFound) && p.Chains {
		return p.store().Get(p.ctx, r.key(attach.Chained))
	}
	return a, err
}

// gc deletes what the list of valid attachments does not name, here and at a
// delegated IPAM.
func (p *plugin) gc(r *Request) error {
	err := p.collect(r)
	if d := r.delegate(); d != nil && !p.Leases {
		err = errors.Join(err, ipam.ExecGC(p.ctx, d.Type, d.Conf, d.Path))
	}
	return err
}

// collect deletes every attachment of this network that is not in the list of
// valid ones. A list that is null or empty says that none is valid; without the
// key nobody has said anything, and nothing is deleted.
func (p *plugin) collect(r *Request) error {
	valid, given, err := r.valid()
	if err != nil || !given {
		return err
	}
	var errs []error
	for _, role := range p.roles() {
		errs = append(errs, p.store().GC(p.ctx, r.Conf.Name, role, func(a *attach.Attachment) bool {
			return valid[types.GCAttachment{ContainerID: a.Container, IfName: a.IfName}] || a.Connected && alive(a)
		}))
	}
	return errors.Join(errs...)
}

// valid is the list of valid attachments; given tells whether there is one.
func (r *Request) valid() (valid map[types.GCAttachment]bool, given bool, err error) {
	raw := r.Conf.Valid
	if raw == nil {
		raw = r.Conf.ValidOld
	}
	if raw == nil {
		return nil, false, nil
	}
	var list []types.GCAttachment
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, true, &schema.TypeError{Key: "cni.dev/valid-attachments", Value: string(raw), Want: "a list of {containerID, ifname}"}
	}
	valid = make(map[types.GCAttachment]bool, len(list))
	for _, v := range list {
		valid[v] = true
	}
	return valid, true, nil
}

// alive tells whether the path of an attachment is still the namespace that was
// attached.
func alive(a *attach.Attachment) bool {
	ns, err := netns.Open(a.Netns)
	if err != nil {
		return false
	}
	defer ns.Close()
	cookie, err := ns.Cookie()
	return err == nil && (a.Cookie == 0 || cookie == a.Cookie)
}

// status tells whether an ADD could work now: what the plan asks the host for, and
// what the steps know of it.
func (p *plugin) status(r *Request) error {
	steps, err := r.Plan()
	if err != nil {
		return unavailable(err)
	}
	if s, ok := r.config.(Statuser); ok {
		if err := s.Status(r); err != nil {
			return unavailable(err)
		}
	}
	for _, step := range steps {
		if s, ok := step.(attach.Statuser); ok {
			if err := s.Status(p.ctx, p.store(), r.Conf.Name); err != nil && !outdated(err) {
				return unavailable(err)
			}
		}
	}
	return nil
}

// outdated tells whether the error is about a network that an ADD would forget.
func outdated(err error) bool {
	var overlap *attach.OverlapError
	if !errors.As(err, &overlap) {
		return false
	}
	there, err := link.Exists(overlap.Other.Link)
	return err == nil && !there
}

// unavailable gives an error code 50 (SPEC section 2, STATUS): no ADD now. The code
// of a delegated IPAM stays.
func unavailable(err error) error {
	var coded *types.Error
	if err == nil || errors.As(err, &coded) {
		return err
	}
	return types.NewError(types.ErrPluginNotAvailable, err.Error(), "")
}
