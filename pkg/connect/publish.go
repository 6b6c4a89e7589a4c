package connect

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/firewall/publish"
	"github.com/berth-cni/berth/pkg/inspect"
)

// Published are the attachments of a container.
func Published(ctx context.Context, c Config, word string) ([]*attach.Attachment, error) {
	to, err := c.find(ctx, word)
	if err != nil {
		return nil, fmt.Errorf("ports of %s: %w", word, err)
	}
	return to.records, nil
}

func (c *Config) find(ctx context.Context, word string) (*container, error) {
	records, err := inspect.Records(ctx, c.Networks.Store, c.Networks.Warn)
	if err != nil {
		return nil, err
	}
	return find(records, word)
}

// Publish has a running container publish more ports: on the network of that name, or with an
// empty one on the first that can publish any. It is an error when somebody has one of them: an
// [*attach.HeldError], a [*publish.TakenError].
func Publish(ctx context.Context, c Config, word, network string, ports []attach.Port) error {
	if err := c.publish(ctx, word, network, ports); err != nil {
		return fmt.Errorf("publish ports of %s: %w", word, err)
	}
	return nil
}

func (c *Config) publish(ctx context.Context, word, network string, ports []attach.Port) error {
	to, err := c.find(ctx, word)
	if err != nil {
		return err
	}
	a, err := to.publisher(network)
	if err != nil {
		return err
	}
	ports = c.bound(a.Network, ports)
	if err := free(a, to, ports); err != nil {
		return err
	}
	return c.Networks.Store.Publish(ctx, a.Key, func(now *attach.Attachment) error {
		rules := firewall.RulesOf(now)
		opened := rules.Open
		translated := rules.Publish(ports)
		if len(translated)+len(rules.Open) == 0 {
			return errors.New("there is nothing to publish: the gateway mode routed translates nothing, and what is for the host alone reaches the container's own address")
		}
		now.Ports, rules.Open = append(now.Ports, translated...), append(opened, rules.Open...)
		return nil
	}, firewall.Withdraw)
}

// publisher is the attachment that publishes the container's ports: the one to a network, or the
// first that a port can lead to.
func (c *container) publisher(network string) (*attach.Attachment, error) {
	all := slices.SortedStableFunc(slices.Values(c.records), func(a, b *attach.Attachment) int { return a.Created.Compare(b.Created) })
	for _, a := range all {
		if network != "" && a.Network != network || a.Deleting || c.netns == "" {
			continue
		}
		if r := firewall.RulesOf(a); r != nil && !r.Internal && len(a.Addresses) > 0 {
			return a, nil
		}
	}
	if c.netns == "" {
		return nil, errors.New("the container has ended")
	}
	word := network
	if word != "" {
		word += " "
	}
	return nil, fmt.Errorf("is on no network %sthat publishes ports: want a bridge, or one that spans hosts, which is not internal", word)
}

// bound gives the ports without an address of the host that of their network, if it has one.
func (c *Config) bound(network string, ports []attach.Port) []attach.Port {
	files, _ := c.Networks.Dir.List() // what cannot be read is not of this name
	f := conflist.Find(files, network)
	if f == nil || f.Plugins[0].HostBindingIPv4 == "" {
		return ports
	}
	to, err := netip.ParseAddr(f.Plugins[0].HostBindingIPv4)
	ports = slices.Clone(ports)
	for i := range ports {
		if !ports[i].HostIP.IsValid() && err == nil {
			ports[i].HostIP = to
		}
	}
	return ports
}

// free tells why ports cannot be published to an attachment, as far as the store does not know.
func free(a *attach.Attachment, to *container, ports []attach.Port) error {
	for i, p := range ports {
		has := func(o attach.Port) bool { return o.Overlaps(p) }
		for _, other := range to.records {
			if slices.ContainsFunc(slices.Concat(other.Ports, other.Waiting), has) {
				return fmt.Errorf("%s is published to this container on network %s already", p, other.Network)
			}
		}
		if slices.ContainsFunc(slices.Concat(ports[:i], firewall.RulesOf(a).Open), has) {
			return fmt.Errorf("%s is published to this container already", p)
		}
		if p.HostIP.IsValid() && !slices.ContainsFunc(a.Addresses, func(x attach.Address) bool { return x.Prefix.Addr().Is4() == p.HostIP.Is4() }) {
			return fmt.Errorf("%s: the container has no address of that family", p)
		}
		holder, err := publish.Listener(p, a.Container)
		if err != nil {
			return err
		}
		if holder != "" {
			return &publish.TakenError{Port: p, Holder: holder}
		}
	}
	return nil
}

// Unpublish has a running container publish ports no longer, whichever network they are on. A
// port without a container's port, or without an address of the host, stands for all of its
// number.
func Unpublish(ctx context.Context, c Config, word string, ports []attach.Port) error {
	to, err := c.find(ctx, word)
	for _, p := range ports {
		if err == nil {
			err = c.unpublish(ctx, to, p)
		}
	}
	if err != nil {
		return fmt.Errorf("withdraw ports of %s: %w", word, err)
	}
	return nil
}

func (c *Config) unpublish(ctx context.Context, from *container, p attach.Port) error {
	is := func(o attach.Port) bool {
		return o.Protocol == p.Protocol && o.HostPort == p.HostPort && (p.ContainerPort == 0 || o.ContainerPort == p.ContainerPort) &&
			(!p.HostIP.IsValid() || o.HostIP == p.HostIP)
	}
	// What is opened at the container's own address is shown by the container's port alone.
	opened := func(o attach.Port) bool {
		return is(o) || p.ContainerPort == 0 && o.Protocol == p.Protocol && o.ContainerPort == p.HostPort
	}
	found, others := false, []string{}
	for _, a := range slices.Backward(from.records) { // those that wait first
		r := firewall.RulesOf(a)
		if r == nil || a.Deleting {
			continue
		}
		if !slices.ContainsFunc(slices.Concat(a.Ports, a.Waiting), is) && !slices.ContainsFunc(r.Open, opened) {
			for _, o := range slices.Concat(a.Ports, r.Open) {
				others = append(others, inspect.Port(o).String())
			}
			continue
		}
		found = true
		err := c.Networks.Store.Withdraw(ctx, a.Key, func(now *attach.Attachment) error {
			rules := firewall.RulesOf(now)
			now.Ports, now.Waiting, rules.Open = slices.DeleteFunc(now.Ports, is), slices.DeleteFunc(now.Waiting, is), slices.DeleteFunc(rules.Open, opened)
			return nil
		}, firewall.Withdraw)
		if err != nil {
			return err
		}
	}
	switch {
	case !found && len(others) > 0:
		return fmt.Errorf("%s is not published: want one of %s", p, strings.Join(others, ", "))
	case !found:
		return fmt.Errorf("%s is not published, nor is any other", p)
	}
	return nil
}
