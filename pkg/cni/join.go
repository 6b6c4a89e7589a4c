package cni

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link"
)

// Joiner is a [Config] whose mode makes no interface. The container sees some that
// are there already: lo, the host's, or another container's. It has no addresses of
// its own and publishes no ports.
type Joiner interface {
	Config
	// Join looks up what the container is to see, and notes it in the attachment:
	// MAC, addresses, routes, interfaces, and the cookie of the namespace where its
	// path is to refer to another one. It changes nothing on the host. ADD calls it
	// after Plan; it notes problems by [Request.Refuse], and its own errors are about
	// the host.
	Join(context.Context, *Request, *attach.Store, *attach.Adding) error
}

// join is ADD of a [Joiner].
func (p *plugin) join(r *Request, j Joiner) error {
	s := p.store()
	add, err := p.prepareJoin(r, j, s)
	if err != nil {
		// What is wrong may be that the first ADD has done its work.
		if _, unknown := s.Get(p.ctx, r.key(attach.Main)); unknown == nil {
			return fmt.Errorf("%s: %w", r.key(attach.Main), attach.ErrExists)
		}
		return err
	}
	p.did("prepare")
	if p.trace != nil {
		add.a.Did = p.did
	}
	err = s.Add(p.ctx, add.a, func(*attach.Tx) error {
		add.a.Steps = add.plan.Steps
		return nil
	})
	if err != nil {
		return err
	}
	return p.answer(add, s)
}

// unnumber takes the index of the interface out of the addresses of the result when
// Join found an interface of another name than CNI_IFNAME: containerd wants an
// address of that one, and takes those without an index for it.
func (add *addition) unnumber() {
	if len(add.a.Interfaces) == 0 || add.a.Interfaces[0].Name == add.IfName {
		return
	}
	res := add.result()
	for _, ip := range res.IPs {
		ip.Interface = nil
	}
	add.prev = &previous{result: res} // which is passed on as it is
}

func (p *plugin) prepareJoin(r *Request, j Joiner, s *attach.Store) (*addition, error) {
	ns, err := r.openNetns()
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	add := &addition{Request: r}
	if add.plan, err = r.Plan(); err != nil {
		return nil, err
	}
	if add.prev, err = r.previous(); err != nil {
		return nil, err
	}
	if add.prev.result != nil && len(add.prev.result.Interfaces) > 0 {
		r.Refuse("prevResult.interfaces", len(add.prev.result.Interfaces), "want %s to be the first plugin of its chain", p.Name)
	}
	if n := len(r.Conf.Runtime.PortMappings); n > 0 && add.plan.NoPorts != "" {
		Warn("published ports of network %s are ignored: %s", r.Conf.Name, add.plan.NoPorts)
	}
	add.a = &attach.Adding{Attachment: &attach.Attachment{
		Key: r.key(attach.Main), Plugin: p.Name, Netns: r.Netns,
		Created: time.Now().UTC().Truncate(time.Millisecond), Args: r.Args,
	}}
	if err := j.Join(p.ctx, r, s, add.a); err != nil {
		return nil, err
	}
	if err := errors.Join(r.problems...); err != nil {
		return nil, configError{err}
	}
	if add.a.Cookie == 0 {
		add.a.Cookie, err = ns.Cookie()
	}
	add.unnumber()
	return add, err
}

// answer writes the result; without one there is no attachment.
func (p *plugin) answer(add *addition, s *attach.Store) error {
	if err := add.print(os.Stdout); err != nil {
		return errors.Join(fmt.Errorf("write result: %w", err), s.Del(context.WithoutCancel(p.ctx), add.a.Key))
	}
	p.did("answer")
	return nil
}

// checkJoined is CHECK of a [Joiner]: the path refers to the namespace on record,
// which may be the host's, and whose owner has not gone.
func (p *plugin) checkJoined(r *Request) error {
	s := p.store()
	a, err := s.Get(p.ctx, r.key(attach.Main))
	if err != nil {
		return err
	}
	ns, err := link.OpenNetns(r.Netns)
	if errors.Is(err, fs.ErrNotExist) {
		return badEnvironment("CNI_NETNS: %q: there is no such namespace", r.Netns)
	}
	if err != nil {
		return err
	}
	defer ns.Close()
	cookie, err := ns.Cookie()
	if err != nil {
		return err
	}
	if a.Cookie != 0 && cookie != a.Cookie {
		return fmt.Errorf("%w: CNI_NETNS %q is not the namespace that was attached", errMissing, r.Netns)
	}
	a.Netns = r.Netns
	prev, err := r.previous()
	if err != nil {
		return err
	}
	if err := errors.Join(p.checkOwner(s, a), prev.has(a), attach.Check(p.ctx, a)); err != nil {
		return fmt.Errorf("%w: %w", errMissing, err)
	}
	return nil
}

// checkOwner tells whether the attachment whose namespace was joined is still on
// record.
func (p *plugin) checkOwner(s *attach.Store, a *attach.Attachment) error {
	for _, st := range a.Steps {
		r, ok := st.(*link.Rebind)
		if !ok || r.Owner == (attach.Key{}) {
			continue
		}
		if owner, err := s.Get(p.ctx, r.Owner); errors.Is(err, attach.ErrNotFound) || err == nil && owner.Cookie != a.Cookie {
			return fmt.Errorf("the owner of the namespace is gone: %s", r.Owner)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// has tells whether the runtime's result still has the addresses of the record.
func (p *previous) has(a *attach.Attachment) error {
	if p.result == nil {
		return nil
	}
	for _, addr := range a.Addresses {
		found := false
		for _, ip := range p.result.IPs {
			found = found || fromIPNet(ip.Address) == addr.Prefix
		}
		if !found {
			return fmt.Errorf("prevResult lacks the address %s", addr.Prefix)
		}
	}
	return nil
}

// RefuseAddress refuses everything that asks for an address or a MAC, for a mode
// whose containers have none of their own.
func (r *Request) RefuseAddress(why string) {
	if !r.IPAM.Empty() {
		r.Refuse("ipam", string(r.Conf.IPAM), "%s", why)
	}
	for _, asked := range []struct{ key, value string }{
		{"runtimeConfig.ips", strings.Join(r.Conf.Runtime.IPs, " ")}, {"args.cni.ips", strings.Join(r.args.CNI.IPs, " ")},
		{"CNI_ARGS IP", r.Args["IP"]}, {"runtimeConfig.mac", r.Conf.Runtime.MAC}, {"args.cni.mac", r.args.CNI.MAC}, {"CNI_ARGS MAC", r.Args["MAC"]},
	} {
		if asked.value != "" {
			r.Refuse(asked.key, asked.value, "%s", why)
		}
	}
}

// RefusePath refuses a CNI_NETNS that cannot be made to refer to another namespace,
// or whose namespace somebody has put an interface in.
func (r *Request) RefusePath() error {
	err := link.Rebindable(r.Netns)
	if errors.Is(err, link.ErrNotRebindable) {
		return badEnvironment("CNI_NETNS: %w", err)
	}
	if err != nil {
		r.Refuse("CNI_NETNS", r.Netns, "%v", err)
	}
	return nil
}

// onHost reports whether a mode of ours has put the container into the host's
// namespace.
func (p *plugin) onHost(container string, host uint64) (bool, error) {
	all, err := p.store().List(p.ctx, "")
	return slices.ContainsFunc(all, func(a *attach.Attachment) bool {
		return a.Container == container && a.Cookie == host && a.Role == attach.Main
	}), err
}

// JoinHost notes that the container is to be in the host's namespace, with what
// leads outside: the interface of the default route.
func JoinHost(a *attach.Adding) error {
	cookie, err := link.HostCookie()
	if err != nil {
		return err
	}
	uplink, addrs, routes, err := link.Uplink()
	if err != nil {
		return err
	}
	uplink.Sandbox = a.Netns
	a.Cookie, a.MAC, a.Addresses, a.Routes = cookie, uplink.MAC, addrs, routes
	a.Interfaces = []attach.Interface{uplink}
	return nil
}
