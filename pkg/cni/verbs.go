package cni

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/ipam"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/containernetworking/cni/pkg/types"
)

// del deletes what the record says, whatever the configuration, the namespace or
// the previous result say today. It never enters the namespace.
func (p *plugin) del(r *Request) error {
	if _, nothing := r.config.(*Loopback); nothing {
		return nil
	}
	s := p.store()
	chained := s.Del(p.ctx, r.key(attach.Chained))
	if errors.Is(chained, attach.ErrNotFound) {
		chained = nil
	}
	err := s.Del(p.ctx, r.key(attach.Main))
	if !errors.Is(err, attach.ErrNotFound) {
		return errors.Join(chained, err)
	}
	return errors.Join(chained, p.delUnknown(r))
}

// delUnknown deletes an attachment that there is no record of: what is found by
// its name, and what a delegated IPAM may hold for it.
func (p *plugin) delUnknown(r *Request) error {
	err := link.Delete(r.key(attach.Main).HostIfName())
	if conf, bad := ipam.Parse(r.Conf.IPAM); bad == nil && delegated(conf) {
		d := r.delegate(conf)
		err = errors.Join(err, d.Del(p.ctx, &attach.Attachment{Key: r.key(attach.Main), Netns: r.Netns}))
	}
	return err
}

func (r *Request) delegate(conf *ipam.Config) *ipam.Delegate {
	return &ipam.Delegate{Type: conf.Type, Conf: r.StdinData, Path: r.Path, Args: r.CmdArgs.Args}
}

// check compares the kernel, and what the runtime remembers, with the record.
func (p *plugin) check(r *Request) error {
	switch r.config.(type) {
	case Joiner:
		return p.checkJoined(r)
	case *Loopback:
		return p.checkLoopback(r)
	}
	ns, err := r.openNetns()
	if err != nil {
		return err
	}
	defer ns.Close()
	s := p.store()
	a, err := s.Get(p.ctx, r.key(attach.Main))
	chained, errChained := s.Get(p.ctx, r.key(attach.Chained))
	if errors.Is(err, attach.ErrNotFound) && errChained == nil {
		a, err = chained, nil
	}
	if err != nil {
		return err
	}
	cookie, err := ns.Cookie()
	if err != nil {
		return err
	}
	if a.Cookie != 0 && cookie != a.Cookie {
		return fmt.Errorf("%w: CNI_NETNS %q is not the namespace that was attached", errMissing, r.Netns)
	}
	attached := a.Netns
	a.Netns = r.Netns // the same namespace, perhaps by another path
	for _, st := range a.Steps {
		if d, ok := st.(*ipam.Delegate); ok {
			d.Conf = r.StdinData // with the prevResult that its CHECK wants
		}
	}
	prev, err := r.previous(attached)
	if err != nil {
		return err
	}
	err = errors.Join(prev.compare(a), attach.Check(p.ctx, a))
	if v, ok := r.config.(Verifier); ok {
		err = errors.Join(err, v.Verify(r, a))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errMissing, err)
	}
	return nil
}

// gc deletes what the list of valid attachments does not name, here and at a
// delegated IPAM.
func (p *plugin) gc(r *Request) error {
	err := p.collect(r, attach.Chained, attach.Main)
	if conf, bad := ipam.Parse(r.Conf.IPAM); bad == nil && delegated(conf) {
		err = errors.Join(err, ipam.ExecGC(p.ctx, conf.Type, r.StdinData, r.Path))
	}
	return err
}

// collect deletes every attachment of this network that is not in the list of
// valid ones. A list that is null or empty says that none is valid; without the
// key nobody has said anything, and nothing is deleted.
func (p *plugin) collect(r *Request, roles ...attach.Role) error {
	raw := r.Conf.Valid
	if raw == nil {
		raw = r.Conf.ValidOld
	}
	if raw == nil {
		return nil
	}
	var list []types.GCAttachment
	if err := json.Unmarshal(raw, &list); err != nil {
		return configError{fmt.Errorf("cni.dev/valid-attachments: %s: want a list of {containerID, ifname}: %w", raw, err)}
	}
	valid := make(map[types.GCAttachment]bool, len(list))
	for _, v := range list {
		valid[v] = true
	}
	var errs []error
	for _, role := range roles {
		errs = append(errs, p.store().GC(p.ctx, r.Conf.Name, role, func(a *attach.Attachment) bool {
			return valid[types.GCAttachment{ContainerID: a.Container, IfName: a.IfName}] || a.Connected && alive(a)
		}))
	}
	return errors.Join(errs...)
}

// alive tells whether the path of an attachment is still the namespace that was
// attached.
func alive(a *attach.Attachment) bool {
	ns, err := link.OpenNetns(a.Netns)
	if err != nil {
		return false
	}
	defer ns.Close()
	cookie, err := ns.Cookie()
	return err == nil && (a.Cookie == 0 || cookie == a.Cookie)
}

// status tells whether an ADD could work now: the configuration and a firewall,
// which the plan asks for, who answers for names, and a free address.
func (p *plugin) status(r *Request) error {
	if _, err := r.Plan(); err != nil {
		return unavailable(err)
	}
	if v, ok := r.config.(Verifier); ok {
		if err := v.Available(r); err != nil {
			return unavailable(err)
		}
	}
	if r.Conf.Names {
		if err := names.Available(p.ctx); err != nil {
			return unavailable(err)
		}
	}
	if delegated(r.IPAM) {
		return unavailable(ipam.ExecStatus(p.ctx, r.IPAM.Type, r.StdinData, r.Path))
	}
	return p.freeAddress(r)
}

func (p *plugin) freeAddress(r *Request) error {
	return unavailable(p.store().View(p.ctx, func(tx *attach.Tx) error { return r.IPAM.Free(tx, r.Conf.Name) }))
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
