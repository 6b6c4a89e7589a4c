// Package firewall is what the host's packet filter knows of attachments:
// published ports, masquerade, isolation, and the protection that these need.
//
// A network and a container are elements of nftables sets and maps, in one table
// whose chains and rules never change ([TableName]); adding a container is one
// transaction of a few elements, whatever is there already. Hosts without
// nftables get the same through iptables. Every element and rule of a container
// carries its attachment's hash ([attach.Key.Hash]) as comment.
//
// What an overlay network has to do with other hosts is a [Tunnel]: the agent hands
// over all of them with [SyncTunnels].
//
// What belongs to interfaces is not done here: ip_forward, the bridge's
// route_localnet (for ports on 127.0.0.1), and a port's hairpin and isolation.
package firewall

import (
	"context"
	"errors"
	"fmt"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
)

// Rules is the step that tells the host's firewall of one attachment.
type Rules struct {
	// Backend is "nftables" or "iptables", as [Choose] resolved it. The record
	// keeps it, so that Del cleans where Add wrote.
	Backend string `json:"backend"`
	// Bridge is the host's interface through which the container is reached.
	Bridge string `json:"bridge"`
	// Own says that no other container is reached through Bridge (the host's end
	// of a point-to-point pair): Del then leaves nothing of the network either.
	Own bool `json:"own,omitempty"`
	// Group says that the network has no bridge: each of its containers is reached through
	// an interface of its own, which is in the interface group of that number (IFLA_GROUP).
	Group uint32 `json:"group,omitempty"`
	// Overlay is the VXLAN device through which the network goes on to other
	// hosts; none: the network ends here. Containers of an overlay network keep
	// their addresses towards other Berth networks of all hosts. What the rules
	// need for the device is added with every container, and removed by
	// [SyncTunnels] alone.
	Overlay string `json:"overlay,omitempty"`
	// OverlayPort is the UDP port of that device, to which containers send nothing.
	OverlayPort int  `json:"overlayPort,omitempty"`
	Masquerade  bool `json:"masquerade,omitempty"` // hide the container's addresses from the outside
	Internal    bool `json:"internal,omitempty"`   // nothing in or out but this network and its gateway
	Isolate     bool `json:"isolate,omitempty"`    // no traffic with other isolated networks
	NoICC       bool `json:"noicc,omitempty"`      // none between containers of this network
	Names       bool `json:"names,omitempty"`      // their questions for names go to [allow.NamesPort]
	// Foreign says that somebody else made the bridge: others than containers may be behind
	// it, as the host's LAN is behind one with a network card as port. Their questions to an
	// address that is the host's and the network's gateway alike are the host's own.
	Foreign bool `json:"foreign,omitempty"`
	// Mode4 and Mode6 are the network's gateway modes. In another one than [Plain],
	// Masquerade has no meaning for the family.
	Mode4 GatewayMode `json:"mode4,omitempty"`
	Mode6 GatewayMode `json:"mode6,omitempty"`
	// NoMasquerade keeps the modes nat from it, too.
	NoMasquerade bool `json:"noMasquerade,omitempty"`
	// Open are published ports that are not translated ([Routed]), as Publish left them.
	Open []attach.Port `json:"open,omitempty"`
}

// The backends.
const (
	NFTables = "nftables"
	IPTables = "iptables"
)

// backend holds the rules of attachments. add makes all or nothing.
type backend interface {
	add(context.Context, *Rules, *attach.Adding) error
	del(context.Context, *Rules, *attach.Attachment) error
	// withdraw deletes what the attachment had, and by now has no more.
	withdraw(ctx context.Context, had, has *Rules, before, now *attach.Attachment) error
	check(context.Context, *Rules, *attach.Attachment) error
	// removeNetwork drops what networks share no more.
	removeNetwork(ctx context.Context, bridge string) error
	// usable returns what is missing on this host.
	usable() error
	// rebuild makes everything anew, for the attachments that have a record.
	rebuild(context.Context, records) error
	// syncTunnels makes what is there for tunnels what is wanted.
	syncTunnels(context.Context, []Tunnel, records) error
}

func backendOf(name string) (backend, error) {
	switch name {
	case NFTables:
		return nft{}, nil
	case IPTables:
		return ipt{}, nil
	}
	return nil, fmt.Errorf("firewall backend %q is neither %s nor %s", name, NFTables, IPTables)
}

// Choose resolves the configuration's word: auto (or nothing) is nftables where
// the kernel has it, else iptables. An error says what the backend misses.
func Choose(word string) (string, error) {
	if word != "" && word != "auto" {
		return word, Status(word)
	}
	nftErr := Status(NFTables)
	if nftErr == nil {
		return NFTables, nil
	}
	if err := Status(IPTables); err != nil {
		return "", errors.Join(nftErr, err)
	}
	return IPTables, nil
}

// Status returns why the backend cannot be used now; nil when it can.
func Status(name string) error {
	b, err := backendOf(name)
	if err != nil {
		return err
	}
	if err := b.usable(); err != nil {
		return fmt.Errorf("firewall backend %s: %w", name, err)
	}
	return nil
}

// Kind implements [attach.Step].
func (*Rules) Kind() string { return "firewall" }

// Restorable implements [attach.Restorable]: the Add of another attachment that
// finds the table gone adds this step for everybody, so that a rollback has to
// delete it even where its own Add did not run.
func (*Rules) Restorable() {}

// Add implements [attach.Step]. What is of the network is made with every
// container, so that it comes back after somebody flushed it.
func (r *Rules) Add(ctx context.Context, a *attach.Adding) error {
	for _, p := range a.Ports {
		if _, ok := firstOfFamily(a.Addresses, p.HostIP); p.HostIP.IsValid() && !ok {
			a.Warn("%s is not published: the container has no address of that family", p)
		}
	}
	if i, ok := a.Interface(r.Bridge); ok && i.Foreign && r.Names && !r.Foreign {
		r.Foreign = true
		a.Changed()
	}
	return r.do(a.Key, "add", func(b backend) error {
		now, err := r.joined(ctx, a)
		if err != nil {
			return err
		}
		return b.add(ctx, now, a)
	})
}

// Repair implements [attach.Repairer]: what is there stays, so that no packet misses it.
func (r *Rules) Repair(ctx context.Context, a *attach.Adding) error { return r.Add(ctx, a) }

// Withdraw deletes what an attachment had in the firewall, and by now has no more: ports that it
// publishes no longer. Connections of TCP that have come by them go on.
func Withdraw(ctx context.Context, before, now *attach.Attachment) error {
	had, has := RulesOf(before), RulesOf(now)
	if had == nil || has == nil {
		return nil
	}
	return had.do(before.Key, "withdraw", func(b backend) error { return b.withdraw(ctx, had, has, before, now) })
}

// Del implements [attach.Step]. What is of the network stays, unless it is Own.
func (r *Rules) Del(ctx context.Context, a *attach.Attachment) error {
	return r.do(a.Key, "delete", func(b backend) error { return b.del(ctx, r, a) })
}

// Check implements [attach.Step].
func (r *Rules) Check(ctx context.Context, a *attach.Attachment) error {
	return r.do(a.Key, "check", func(b backend) error { return b.check(ctx, r, a) })
}

func (r *Rules) do(k attach.Key, verb string, fn func(backend) error) error {
	b, err := backendOf(r.Backend)
	if err == nil {
		err = fn(b)
	}
	if err != nil {
		return fmt.Errorf("%s firewall rules of %s: %w", verb, k, err)
	}
	return nil
}

// RemoveNetwork drops what the backend holds for a network without containers.
func RemoveNetwork(ctx context.Context, name, bridge string) error {
	b, err := backendOf(name)
	if err == nil {
		err = b.removeNetwork(ctx, bridge)
	}
	if err != nil {
		return fmt.Errorf("remove firewall rules of bridge %s: %w", bridge, err)
	}
	return nil
}

// RemoveGroup drops what nftables holds for a network without a bridge and without
// containers ([Rules.Group]).
func RemoveGroup(group uint32) error {
	s, err := dial()
	if err == nil {
		err = s.Remove([]nftnl.Element{groupElement(group)})
	}
	if err != nil {
		return fmt.Errorf("remove firewall rules of interface group %d: %w", group, err)
	}
	return nil
}

// Rebuild makes everything anew from the records of all attachments: after
// somebody flushed the host's firewall, and when a newer version brings other
// rules. What no record asks for is gone afterwards. With nftables that is one
// transaction, in which no packet sees a gap.
//
// Attachments come and go meanwhile: all is called several times, and has to list
// the records that there are at the time of the call. A host without records has
// its nftables table emptied, if there is one.
func Rebuild(ctx context.Context, all func(context.Context) ([]*attach.Attachment, error)) error {
	list, err := all(ctx)
	if err != nil {
		return fmt.Errorf("rebuild the firewall: %w", err)
	}
	used := map[string]bool{NFTables: tableThere()}
	for _, a := range list {
		if r := RulesOf(a); r != nil {
			used[r.Backend] = true
		}
	}
	errs := []error{rebuildSpoof(ctx, all)}
	for name, is := range used {
		if !is {
			continue
		}
		b, err := backendOf(name)
		if err == nil {
			err = b.rebuild(ctx, all)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("rebuild %s firewall: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// tableThere reports whether there is a table of ours, whole or not.
func tableThere() bool {
	s, err := dial()
	if err != nil {
		return false
	}
	found, err := s.Exists()
	return err == nil && found
}
