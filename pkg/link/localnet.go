package link

import (
	"context"
	"fmt"

	"github.com/berth-cni/berth/pkg/attach"
)

// Localnet is the step that has the host reach published ports by 127.0.0.1 through
// an interface that another plugin made. It is a setting of the interface: Del
// leaves it.
type Localnet struct {
	Interface string `json:"interface"`
}

// Kind implements [attach.Step].
func (l *Localnet) Kind() string { return "localnet" }

// Add sets route_localnet and lets the host forward, where there are ports to
// publish.
func (l *Localnet) Add(_ context.Context, a *attach.Adding) error {
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.close()
	for _, path := range l.settings(a.Attachment) {
		if _, err := setSysctl(path, "1"); err != nil {
			return err
		}
	}
	if len(a.Ports) > 0 && hasIPv6(a.Attachment) {
		return c.forward6()
	}
	return nil
}

// Del leaves the setting, which goes with the interface.
func (l *Localnet) Del(context.Context, *attach.Attachment) error { return nil }

// Check tells whether the settings are on.
func (l *Localnet) Check(_ context.Context, a *attach.Attachment) error {
	for _, path := range l.settings(a) {
		on, err := readSysctl(path)
		if err != nil {
			return err
		}
		if on != "1" {
			return fmt.Errorf("%s is %q, want 1", path, on)
		}
	}
	return nil
}

func (l *Localnet) settings(a *attach.Attachment) []string {
	if len(a.Ports) == 0 {
		return nil
	}
	for _, addr := range a.Addresses {
		if addr.Prefix.Addr().Is4() {
			return []string{sysctl("ipv4", "conf", l.Interface, "route_localnet"), sysctl("ipv4", "ip_forward")}
		}
	}
	return nil
}

// IsBridge reports whether an interface of the host is a bridge.
func IsBridge(name string) bool {
	c, err := dial()
	if err != nil {
		return false
	}
	defer c.close()
	d, err := c.byName(name)
	return err == nil && d.kind == "bridge"
}
