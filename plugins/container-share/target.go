package main

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/netns"
)

// target is whose namespace is joined.
type target struct {
	key, name string             // of the configuration, for messages
	path      string             // of the namespace
	record    *attach.Attachment // nil for a namespace that nobody has on record
}

// find resolves the path of the configuration, or the name of the container; nil when it
// was refused. A container that shares a namespace itself stands for the one whose
// namespace it is.
func (c *config) find(r *cni.Request, container string, all []*attach.Attachment) *target {
	if c.NetnsPath != "" {
		return &target{key: "netnsPath", name: c.NetnsPath, path: c.NetnsPath}
	}
	t := &target{key: "container", name: container}
	if container == "" {
		r.Refuse("container", "", "want the container to share with: its ID, the start of it, or its name")
		return nil
	}
	ids := matching(all, container)
	switch {
	case len(ids) == 0:
		r.Refuse("container", container, "no container of that ID or name is attached on this host")
		return nil
	case len(ids) > 1:
		r.Refuse("container", container, "%d containers match: %s", len(ids), strings.Join(ids[:min(len(ids), 5)], ", "))
		return nil
	case ids[0] == r.ContainerID:
		r.Refuse("container", container, "is this container itself")
		return nil
	}
	t.record = choose(all, ids[0], r.IfName)
	if shared := netns.RebindOf(t.record); shared != nil && shared.Owner != (attach.Key{}) {
		owner := shared.Owner
		i := slices.IndexFunc(all, func(a *attach.Attachment) bool { return a.Key == owner && a.Cookie == t.record.Cookie })
		if i < 0 {
			r.Refuse("container", container, "shares the namespace of %s, which is gone", owner)
			return nil
		}
		if all[i].Container == r.ContainerID {
			r.Refuse("container", container, "shares the namespace of this container itself")
			return nil
		}
		t.record = all[i]
	}
	t.path = t.record.Netns
	return t
}

// matching returns the IDs of the containers that a word names: the one of that ID,
// else those of that name, else those whose ID starts so.
func matching(all []*attach.Attachment, word string) []string {
	for _, is := range []func(*attach.Attachment) bool{
		func(a *attach.Attachment) bool { return a.Container == word },
		func(a *attach.Attachment) bool {
			name, namespace := a.Args["K8S_POD_NAME"], a.Args["K8S_POD_NAMESPACE"]
			return name != "" && (word == name || word == namespace+"/"+name)
		},
		func(a *attach.Attachment) bool { return strings.HasPrefix(a.Container, word) },
	} {
		var ids []string
		for _, a := range all {
			if a.Role != attach.IPAM && is(a) && !slices.Contains(ids, a.Container) {
				ids = append(ids, a.Container)
			}
		}
		if len(ids) > 0 {
			return ids
		}
	}
	return nil
}

// choose returns the container's record for the interface; else its first one.
func choose(all []*attach.Attachment, container, ifName string) *attach.Attachment {
	var first *attach.Attachment
	for _, a := range all {
		if a.Container != container || a.Role == attach.IPAM {
			continue
		}
		if a.IfName == ifName {
			return a
		}
		if first == nil {
			first = a
		}
	}
	return first
}

// join is the step that puts the request's container into the target's namespace; nil
// when that was refused.
func (t *target) join(r *cni.Request, all []*attach.Attachment) (*netns.Rebind, error) {
	ns, cookie, err := t.open(r)
	if ns == nil {
		return nil, err
	}
	defer ns.Close()
	host, err := ns.IsOwn()
	if err != nil {
		return nil, err
	}
	rebind := &netns.Rebind{}
	if host { // the target is on host
		rebind.Sees, err = link.ViewHost()
		return rebind, err
	}
	t.recognise(all, cookie)
	rebind.From, rebind.Owner = t.path, t.owner()
	rebind.Sees, err = t.view(ns, cookie, r.IfName)
	return rebind, err
}

// open opens the target's namespace and returns its cookie; nil when it was refused.
func (t *target) open(r *cni.Request) (ns *netns.Namespace, cookie uint64, err error) {
	if t.record == nil && !netns.Mounted(t.path) {
		r.Refuse(t.key, t.name, "want a path that a namespace is mounted on, such as /run/netns/NAME")
		return nil, 0, nil
	}
	ns, err = netns.Open(t.path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, netns.ErrNotNetns) {
		r.Refuse(t.key, t.name, "its namespace %s is gone", t.path)
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	own, err := netns.Open(r.Netns)
	if err != nil {
		ns.Close()
		return nil, 0, err
	}
	defer own.Close()
	self, err := ns.Same(own)
	if err == nil {
		cookie, err = ns.Cookie()
	}
	switch {
	case err != nil:
	case t.record != nil && t.record.Cookie != cookie:
		r.Refuse(t.key, t.name, "its namespace is gone: %s is another one by now", t.path)
	case self:
		r.Refuse(t.key, t.name, "is the namespace of this container itself")
	default:
		return ns, cookie, nil
	}
	ns.Close()
	return nil, 0, err
}

// recognise finds the owner of a namespace that was given by its path.
func (t *target) recognise(all []*attach.Attachment, cookie uint64) {
	i := slices.IndexFunc(all, func(a *attach.Attachment) bool {
		return cookie != 0 && a.Cookie == cookie && a.Role != attach.IPAM && netns.RebindOf(a) == nil
	})
	if t.record == nil && i >= 0 {
		t.record = all[i]
	}
}

// owner is the attachment that goes with the namespace: none when nobody has it on
// record, or for the host's.
func (t *target) owner() attach.Key {
	if t.record == nil || netns.RebindOf(t.record) != nil {
		return attach.Key{}
	}
	return t.record.Key
}

// view is what the container is to see: the target's interface as its record has it, or
// the one of that name, or lo where there is none.
func (t *target) view(ns *netns.Namespace, cookie uint64, name string) (*netns.View, error) {
	if t.record != nil {
		name = t.record.IfName
	}
	v := &netns.View{Cookie: cookie}
	var err error
	v.Interface, v.Addresses, err = link.Inspect(ns, name)
	if errors.Is(err, syscall.ENODEV) {
		v.Interface, v.Addresses, err = link.Inspect(ns, "lo")
	} else if err == nil && t.record != nil {
		v.Addresses, v.Routes = t.record.Addresses, t.record.Routes
	}
	return v, err
}
