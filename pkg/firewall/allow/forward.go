// Package allow has the host's other firewalls, firewalld and iptables, let through what
// Berth's own rules decide about: a packet passes only when all of them accept it.
package allow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/internal/xtables"
)

// NamesPort is where the agent answers the containers' questions for names, UDP and
// TCP, unless somebody else has it. What containers of a network with names send to port 53
// of their gateway is redirected to it, before published ports are looked at: a DNS server
// of the host, or one that a container publishes, is in nobody's way.
const NamesPort = 10053

// Forward is the step that has the host's other firewalls let a bridge's traffic
// through: a packet passes only when all of them accept it, so ours cannot allow
// what another one drops. It belongs to the network, not to one container: Add
// ensures it, Del leaves it unless it is Own, [Forward.Remove] undoes it.
//
// It acts on firewalld, and on iptables (either flavour, either family) whose
// FORWARD policy is drop, as Docker and ufw set it. What the containers send is
// allowed, and what answers it or goes to a published port. These rules are
// appended to FORWARD: they stand against the policy only, while what somebody
// drops on purpose, Docker between its own networks or ufw by a rule, stays
// dropped. An accept in DOCKER-USER would come before all that.
//
// What is there is asked of the kernel. A program is started only to change something.
type Forward struct {
	Bridge string `json:"bridge"` // the interface that containers are behind
	// Tunnel is the VXLAN device that leads to containers of other hosts; what comes by it
	// our own rules let pass to the bridge only. Empty: there are none.
	Tunnel string `json:"tunnel,omitempty"`
	// Own says that no other container is reached through Bridge (the host's end
	// of a point-to-point pair): Del then removes what Add made.
	Own bool `json:"own,omitempty"`
	// Group says that the network has no bridge: Bridge is the interface of one container,
	// and those of all are in the interface group of that number. iptables compares the
	// group; firewalld, which cannot, has each interface added, and Del takes it out.
	Group uint32 `json:"group,omitempty"`
	// Names has questions for names let in as well ([NamesPort]), where the policy of
	// INPUT is drop.
	Names bool `json:"names,omitempty"`
}

// Kind implements [attach.Step].
func (*Forward) Kind() string { return "forward" }

// Place implements [attach.Shared].
func (f *Forward) Place() string {
	if f.Group != 0 {
		return "forward " + groupName(f.Group)
	}
	return "forward " + f.Bridge
}

// Join implements [attach.Shared]. One container that asks for names is enough.
func (f *Forward) Join(older attach.Shared) attach.Shared {
	joined := *f
	if o, ok := older.(*Forward); ok {
		joined.Names, joined.Tunnel = f.Names || o.Names, cmp.Or(f.Tunnel, o.Tunnel)
	}
	return &joined
}

// Add implements [attach.Step].
func (f *Forward) Add(ctx context.Context, _ *attach.Adding) error {
	return f.open(ctx, []string{f.Bridge})
}

// Repair implements [attach.Repairer]: it looks at the interfaces of all containers.
func (f *Forward) Repair(ctx context.Context, _ *attach.Adding) error {
	behind, err := f.behind()
	if err != nil {
		return err
	}
	return f.open(ctx, behind)
}

func (f *Forward) open(ctx context.Context, behind []string) error {
	missing, err := f.missing(ctx, behind)
	for _, m := range missing {
		err = errors.Join(err, m.open(ctx))
	}
	if err != nil {
		return fmt.Errorf("let %s through the host's other firewalls: %w", f.what(), err)
	}
	return nil
}

// behind are the interfaces that containers of the network are behind.
func (f *Forward) behind() ([]string, error) {
	if f.Group == 0 {
		return []string{f.Bridge}, nil
	}
	c, err := rtnl.Dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	all, err := c.LinksOfKind("veth")
	var names []string
	for _, l := range all {
		if l.Group == f.Group {
			names = append(names, l.Name)
		}
	}
	return names, err
}

func (f *Forward) what() string {
	if f.Group != 0 {
		return groupName(f.Group)
	}
	return "bridge " + f.Bridge
}

// groupName stands for the interfaces of a group where the name of one may stand, which has
// no colon (dev_valid_name in net/core/dev.c).
func groupName(group uint32) string { return fmt.Sprintf("%s%#x", groupPrefix, group) }

const groupPrefix = "group:"

// through matches what comes in (or goes out) by an interface, or by one of a group.
func through(ifName, option, groupOption string) string {
	if group, ok := strings.CutPrefix(ifName, groupPrefix); ok {
		return "-m devgroup " + groupOption + " " + group
	}
	return option + " " + ifName
}

// Del implements [attach.Step]: other containers use the bridge, unless it is Own.
func (f *Forward) Del(ctx context.Context, _ *attach.Attachment) error {
	switch {
	case f.Own:
		return f.Remove(ctx)
	case f.Group != 0:
		return f.leaveZone(ctx)
	}
	return nil
}

// leaveZone takes the interface of a container out of firewalld's zone.
func (f *Forward) leaveZone(ctx context.Context) error {
	s, err := nftnl.Dial()
	if err != nil {
		return err
	}
	if has, _, err := otherFirewalls(s); !has || err != nil {
		return err
	}
	return firewalld{}.close(ctx, f.Bridge)
}

// Check implements [attach.Step].
func (f *Forward) Check(ctx context.Context, _ *attach.Attachment) error {
	behind, err := f.behind()
	if err != nil {
		return err
	}
	missing, err := f.missing(ctx, behind)
	for _, m := range missing {
		err = errors.Join(err, errors.New(m.what))
	}
	return err
}

// Status implements [attach.Statuser]: whether the programs are there that the other
// firewalls have to be told with.
func (f *Forward) Status(ctx context.Context, _ *attach.Store, _ string) error {
	missing, err := f.missing(ctx, []string{f.Bridge})
	for _, m := range missing {
		if _, bad := m.program(); bad != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", m.what, bad))
		}
	}
	return err
}

// opening is something that another firewall has to be told.
type opening struct {
	what    string // that is wrong without
	program func() (string, error)
	open    func(context.Context) error
}

// missing is what the other firewalls have yet to be told, firewalld of the interfaces that
// containers are behind.
func (f *Forward) missing(ctx context.Context, behind []string) (all []opening, err error) {
	s, err := nftnl.Dial()
	if err != nil {
		return nil, err
	}
	names := []string{"FORWARD"}
	if f.Names {
		names = append(names, "INPUT")
	}
	hasFirewalld, chains, err := otherFirewalls(s, names...)
	if err != nil {
		return nil, err
	}
	if f.Tunnel != "" {
		behind = append(behind, f.Tunnel)
	}
	for _, ifName := range behind {
		if !hasFirewalld {
			break
		}
		there, bad := firewalld{}.trusts(s, ifName)
		err = errors.Join(err, bad)
		if !there && (firewalld{}).verify(ctx, ifName) != nil {
			all = append(all, opening{
				fmt.Sprintf("firewalld does not let %s through: its zone trusted lacks the interface %s", f.what(), ifName),
				firewalld{}.program,
				func(ctx context.Context) error { return firewalld{}.open(ctx, ifName) }})
		}
	}
	for _, c := range chains {
		if !c.Drops {
			continue
		}
		for _, ifName := range f.interfaces(c.Name) {
			rules := RulesThrough(ifName, c.Name)
			there, bad := c.Count(ForwardComment(ifName))
			err = errors.Join(err, bad)
			if there < len(rules) {
				all = append(all, opening{f.refusal(ifName, c), c.Program, func(context.Context) error { return xtables.EnsureIn(c.Form, rules) }})
			}
		}
	}
	return all, err
}

// interfaces are those that one of iptables' built-in chains lets through. Questions for
// names come by the bridge.
func (f *Forward) interfaces(chain string) []string {
	first := f.Bridge
	if f.Group != 0 {
		first = groupName(f.Group)
	}
	if f.Tunnel == "" || chain == "INPUT" {
		return []string{first}
	}
	return []string{first, f.Tunnel}
}

func (f *Forward) refusal(ifName string, c xtables.Chain) string {
	what := f.what()
	if ifName == f.Tunnel {
		what = "VXLAN device " + ifName
	}
	if c.Name == "INPUT" {
		return fmt.Sprintf("the INPUT policy of %s is drop, and questions for names are not let in by %s", c, what)
	}
	return fmt.Sprintf("the FORWARD policy of %s is drop, and %s is not let through", c, what)
}

// ForwardComment marks the rules of an interface.
func ForwardComment(ifName string) string { return "berth network " + ifName }

// RulesThrough are those of an interface for one of iptables' built-in chains: in FORWARD
// what the containers send, and what answers it or goes to a published port; in INPUT
// their questions for names, over UDP and TCP.
func RulesThrough(ifName, chain string) (all []xtables.Rule) {
	from, to := through(ifName, "-i", "--src-group"), through(ifName, "-o", "--dst-group")
	specs := []string{from, to + " -m conntrack --ctstate RELATED,ESTABLISHED,DNAT"}
	if chain == "INPUT" {
		specs = nil
		for _, proto := range []string{"udp", "tcp"} {
			specs = append(specs, fmt.Sprintf("%s -p %s -m conntrack --ctstate DNAT --ctorigdstport 53", from, proto)) // redirected, to whichever port
		}
	}
	for _, spec := range specs {
		all = append(all, xtables.Rule{Table: "filter", Chain: chain,
			Spec: append(strings.Fields(spec), "-m", "comment", "--comment", ForwardComment(ifName), "-j", "ACCEPT")})
	}
	return all
}

// Remove undoes Add, for a network that goes: also where the policy is another one by now.
func (f *Forward) Remove(ctx context.Context) error {
	s, err := nftnl.Dial()
	if err != nil {
		return err
	}
	hasFirewalld, chains, err := otherFirewalls(s, "FORWARD", "INPUT")
	for _, ifName := range f.interfaces("FORWARD") {
		if hasFirewalld && !strings.HasPrefix(ifName, groupPrefix) {
			err = errors.Join(err, firewalld{}.close(ctx, ifName))
		}
		for _, c := range chains {
			if there, bad := c.Count(ForwardComment(ifName)); bad == nil && there > 0 {
				err = errors.Join(err, xtables.RemoveFrom(c.Form, RulesThrough(ifName, c.Name)))
			}
		}
	}
	if err != nil {
		return fmt.Errorf("take %s out of the host's other firewalls: %w", f.what(), err)
	}
	return nil
}
