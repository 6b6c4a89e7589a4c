package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/ipam"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/names"
)

// fate is what has become of the namespace of a record.
type fate int

const (
	alive   fate = iota // the path leads to it
	dead                // it is gone
	without             // it goes on without its path: a process is in it
	unknown             // there is no telling
)

// young is the age of a record whose ADD may still be under way: no runtime waits for
// longer.
const young = time.Minute

// settleTime is how long a call about an attachment that is under way is waited for.
const settleTime = time.Second

// settle waits until nobody works on the attachment, and returns its record as it is
// then; [attach.ErrNotFound] when it has none. A second ADD of what is attached waits
// for the first one, and then is refused, which is all that is wanted here: it claims
// nothing.
func settle(ctx context.Context, store *attach.Store, k attach.Key) (*attach.Attachment, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, settleTime, errors.New("somebody is adding or deleting it"))
	defer cancel()
	err := store.Add(ctx, &attach.Adding{Attachment: &attach.Attachment{Key: k}}, func(*attach.Tx) error { return attach.ErrNotFound })
	if errors.Is(err, attach.ErrExists) {
		return store.Get(ctx, k)
	}
	return nil, err
}

// fateOf tells what has become of a record's namespace, and in words why it is not
// alive. links are the host's: the host's end of a veth pair goes when the namespace
// of the other end does.
func fateOf(a *attach.Attachment, links map[string]hostLink, now time.Time) (fate, string) {
	if a.Netns == "" {
		return unknown, "its record names no namespace"
	}
	why := fmt.Sprintf("its namespace %s is gone", a.Netns)
	ns, err := link.OpenNetns(a.Netns)
	switch {
	case err == nil:
		defer ns.Close()
		cookie, err := ns.Cookie()
		switch {
		case err != nil && !errors.Is(err, link.ErrNotNetns):
			return unknown, err.Error()
		case err == nil && (a.Cookie == 0 || a.Cookie == cookie):
			return alive, ""
		case err == nil:
			why = fmt.Sprintf("%s leads to another namespace by now", a.Netns)
			if rebinds(a) && now.Sub(a.Created) < young { // or not yet to the one that it is to
				return unknown, why
			}
		}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, link.ErrNotNetns):
	default:
		return unknown, err.Error()
	}
	if hasVeth(a) {
		if _, there := links[a.HostIfName()]; there {
			return without, why + ", and a process is still in the one that was attached"
		}
	}
	return dead, why
}

func rebinds(a *attach.Attachment) bool {
	return slices.ContainsFunc(a.Steps, func(s attach.Step) bool { _, ok := s.(*link.Rebind); return ok })
}

func hasVeth(a *attach.Attachment) bool {
	return slices.ContainsFunc(a.Steps, func(s attach.Step) bool { _, ok := s.(*link.Veth); return ok })
}

// rulesIn is the firewall's step of a record; nil when it has none.
func rulesIn(a *attach.Attachment) *firewall.Rules {
	for _, s := range a.Steps {
		if r, ok := s.(*firewall.Rules); ok {
			return r
		}
	}
	return nil
}

// bridgesOf are the interfaces that containers with rules are behind, sorted, each
// with its newest record: what the network is follows from that.
func bridgesOf(all []*attach.Attachment) (sorted []string, newest map[string]*attach.Attachment) {
	newest = map[string]*attach.Attachment{}
	for _, a := range all {
		r := rulesIn(a)
		if r == nil || a.Going {
			continue
		}
		n := newest[r.Bridge]
		if n == nil {
			sorted = append(sorted, r.Bridge)
		}
		if n == nil || !a.Created.Before(n.Created) {
			newest[r.Bridge] = a
		}
	}
	slices.Sort(sorted)
	return sorted, newest
}

// asks reports whether containers ask for names by a bridge.
func asks(all []*attach.Attachment, bridge string) bool {
	return slices.ContainsFunc(all, func(a *attach.Attachment) bool {
		r := rulesIn(a)
		return r != nil && r.Bridge == bridge && r.Names && !a.Going
	})
}

// settled is the record with the steps that can be looked at, and made again, by
// themselves. Left out are the addresses of another IPAM plugin, which is a program to
// run for each container and would give others; and what is of the network, which is
// looked at once for each bridge. The firewall's step has the settings that its network
// has by now.
func settled(a *attach.Attachment, newest map[string]*attach.Attachment) *attach.Attachment {
	b := *a
	b.Steps = nil
	for _, s := range a.Steps {
		switch step := s.(type) {
		case *ipam.Delegate, *firewall.Forward:
			continue
		case *firewall.Rules:
			r := *step
			if n := newest[r.Bridge]; n != nil {
				now := rulesIn(n)
				// Names are asked for as long as one container does, that links perhaps:
				// what its record says stays.
				r.Internal, r.Isolate, r.NoICC = now.Internal, now.Isolate, now.NoICC
			}
			s = &r
		}
		b.Steps = append(b.Steps, s)
	}
	return &b
}

// fault is a step of a record that is not as it was made.
type fault struct {
	a    *attach.Attachment
	kind string // of the step
	err  error
}

// enough is how many faults of the firewall are looked for. One that is not as it was
// made is looked at several times by the backend, and all of it is made anew together.
const enough = 3

// faultsOf checks the records that are alive: what containers share once for those of
// one kind. Names are left out when no agent answers.
func faultsOf(ctx context.Context, all []*attach.Attachment, newest map[string]*attach.Attachment, agent bool) []fault {
	var found []fault
	walls, shared := 0, map[string]bool{}
	for _, a := range all {
		for _, s := range settled(a, newest).Steps {
			if b, ok := s.(*link.Bridge); ok {
				same := fmt.Sprint(*b)
				for _, addr := range a.Addresses {
					same += fmt.Sprint(addr.Gateway, addr.Prefix.Bits())
				}
				if shared[same] {
					continue
				}
				shared[same] = true
			}
			rules, wall := s.(*firewall.Rules)
			if wall && rules.Backend == firewall.IPTables { // would run programs for each container
				continue
			}
			_, named := s.(*names.Register)
			if wall && walls == enough || named && !agent {
				continue
			}
			if err := s.Check(ctx, a); err != nil {
				found = append(found, fault{a, s.Kind(), err})
				if wall {
					walls++
				}
			}
		}
	}
	return found
}

// confirm drops the faults of what somebody is adding, or has deleted, by now.
func confirm(ctx context.Context, store *attach.Store, found []fault, now time.Time) []fault {
	return slices.DeleteFunc(found, func(x fault) bool {
		get := store.Get
		if now.Sub(x.a.Created) < young {
			get = func(ctx context.Context, k attach.Key) (*attach.Attachment, error) { return settle(ctx, store, k) }
		}
		a, err := get(ctx, x.a.Key)
		if err != nil || a.Going {
			return true
		}
		i := slices.IndexFunc(a.Steps, func(s attach.Step) bool { return s.Kind() == x.kind })
		return now.Sub(a.Created) < young && (i < 0 || a.Steps[i].Check(ctx, a) == nil)
	})
}
