package link

import (
	"context"
	"fmt"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
)

// Localnet is the step that has the host reach published ports by 127.0.0.1 through
// an interface that another plugin made. It is a setting of the interface: Del
// leaves it.
type Localnet struct {
	Interface string `json:"interface"`
}

// Kind implements [attach.Step].
func (l *Localnet) Kind() string { return "localnet" }

// Place implements [attach.Shared].
func (l *Localnet) Place() string { return "localnet " + l.Interface }

// Join implements [attach.Shared].
func (l *Localnet) Join(attach.Shared) attach.Shared { return l }

// Add sets route_localnet, where there are ports to publish.
func (l *Localnet) Add(_ context.Context, a *attach.Adding) error {
	if !l.needed(a.Attachment) {
		return nil
	}
	s := localnet(l.Interface)
	if on, err := proc.Read(s.path); err != nil || on == s.value || on == "" {
		return err
	}
	c, err := iface.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := c.LinkByName(l.Interface)
	if err != nil {
		return err
	}
	return s.set(c, d.Index, a.Warn)
}

// localnet has what is translated from 127.0.0.1 leave by a link.
func localnet(name string) setting {
	return setting{path: proc.Net("ipv4", "conf", name, "route_localnet"), value: "1", inet: rtnl.RouteLocalnet}
}

// Del leaves the setting, which goes with the interface.
func (l *Localnet) Del(context.Context, *attach.Attachment) error { return nil }

// Check tells whether the setting is on.
func (l *Localnet) Check(_ context.Context, a *attach.Attachment) error {
	if !l.needed(a) {
		return nil
	}
	s := localnet(l.Interface)
	on, err := proc.Read(s.path)
	if err == nil && on != s.value {
		err = fmt.Errorf("%s is %q, want %s", s.path, on, s.value)
	}
	return err
}

func (l *Localnet) needed(a *attach.Attachment) bool {
	return len(a.Ports) > 0 && slices.ContainsFunc(a.Addresses, func(addr attach.Address) bool { return addr.Prefix.Addr().Is4() })
}

// IsBridge reports whether an interface of the host is a bridge.
func IsBridge(name string) bool {
	c, err := iface.Dial()
	if err != nil {
		return false
	}
	defer c.Close()
	d, err := c.LinkByName(name)
	return err == nil && d.Kind == "bridge"
}
