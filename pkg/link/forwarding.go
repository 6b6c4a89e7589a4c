package link

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"golang.org/x/sys/unix"
)

// Forwarding is the step that has the host forward packets, of the families that the
// attachment has addresses of. It is the host's: Del leaves it.
type Forwarding struct {
	// Gateway has it on for every attachment; else for those that publish ports.
	Gateway bool `json:"gateway,omitempty"`
}

// Kind implements [attach.Step].
func (*Forwarding) Kind() string { return "forwarding" }

// Place implements [attach.Shared].
func (*Forwarding) Place() string { return "forwarding" }

// Join implements [attach.Shared].
func (f *Forwarding) Join(older attach.Shared) attach.Shared {
	o, ok := older.(*Forwarding)
	return &Forwarding{Gateway: f.Gateway || ok && o.Gateway}
}

// Add switches it on. IPv6's switch has the kernel take no router advertisements from
// then on; the interfaces that took them go on to.
func (f *Forwarding) Add(_ context.Context, a *attach.Adding) error {
	for _, v6 := range f.families(a.Attachment) {
		if on, err := Forwards(v6); on || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		if err := forward(v6); err != nil {
			return err
		}
	}
	return nil
}

// Del leaves it: others need it, and who had it on before is not known.
func (*Forwarding) Del(context.Context, *attach.Attachment) error { return nil }

// Check tells whether the host forwards.
func (f *Forwarding) Check(_ context.Context, a *attach.Attachment) error {
	var errs []error
	for _, v6 := range f.families(a) {
		on, err := Forwards(v6)
		if err == nil && !on {
			err = fmt.Errorf("the host does not forward: %s is not 1", forwardingPath(v6))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// families are those that the attachment needs it for: IPv4 (false), IPv6 (true).
func (f *Forwarding) families(a *attach.Attachment) (v6 []bool) {
	if !f.Gateway && len(a.Ports) == 0 {
		return nil
	}
	for _, want := range []bool{false, true} {
		for _, addr := range a.Addresses {
			if addr.Prefix.Addr().Is6() == want {
				v6 = append(v6, want)
				break
			}
		}
	}
	return v6
}

// Routes reports whether the attachment needs the host to forward packets of a family.
func (f *Forwarding) Routes(a *attach.Attachment, v6 bool) bool {
	return slices.Contains(f.families(a), v6)
}

func forwardingPath(v6 bool) string {
	if v6 {
		return proc.Net("ipv6", "conf", "all", "forwarding")
	}
	return proc.Net("ipv4", "ip_forward")
}

// Forwards reports whether the host forwards packets of a family. A kernel without
// IPv6 counts as one that does.
func Forwards(v6 bool) (bool, error) {
	on, err := proc.Read(forwardingPath(v6))
	return on != "0", err
}

// forward switches forwarding on.
//
// A host that forwards IPv6 takes no router advertisements (RFC 4861, section 6.2.7),
// and the kernel drops at once the routes that it has from them, except where accept_ra
// is 2. So that comes first, for every interface that has taken them until now, whether
// or not one has come yet.
func forward(v6 bool) error {
	if v6 {
		if err := keepAdvertisements(); err != nil {
			return err
		}
	}
	_, err := proc.Set(forwardingPath(v6), "1")
	return err
}

// keepAdvertisements has the interfaces that take router advertisements go on to do so
// when the host forwards. Not those that are ports of something, which take none. Nor a
// bridge that leads to nothing but containers, of which one could make itself the host's
// router (CVE-2020-10749): one without a default route and without hardware for a port.
// It lists the links, once in a host's life.
func keepAdvertisements() error {
	c, err := iface.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	all, err := c.Links()
	if err != nil {
		return err
	}
	outward, err := outward(c, all)
	if err != nil {
		return err
	}
	for _, d := range all {
		if d.Master != 0 || d.Flags&unix.IFF_LOOPBACK != 0 || d.Kind == "bridge" && !outward[d.Index] {
			continue
		}
		if err := keepAdvertisementsOf(d.Name); err != nil {
			return err
		}
	}
	return nil
}

func keepAdvertisementsOf(name string) error {
	path := proc.Net("ipv6", "conf", name, "accept_ra")
	if have, err := proc.Read(path); err != nil || have != "1" {
		return err
	}
	_, err := proc.Protect(path, "2") // the switch itself says what it lacks
	return err
}

// outward are the links with a default route, of either family, and those with hardware
// for a port.
func outward(c *iface.Conn, all []*rtnl.Link) (map[int]bool, error) {
	found := map[int]bool{}
	for _, d := range all {
		if d.Master != 0 && hardware(d) {
			found[d.Master] = true
		}
	}
	for _, family := range rtnl.Families {
		routes, err := c.ListRoutes(family, 0)
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			if r.Dst.Bits() == 0 && r.Type == unix.RTN_UNICAST {
				found[r.Index] = true
			}
		}
	}
	return found, nil
}

// hardware tells whether the link is a device of the machine, or stands for one.
func hardware(d *rtnl.Link) bool {
	switch d.Kind {
	case "", "vlan", "bond", "team":
		return d.Flags&unix.IFF_LOOPBACK == 0
	}
	return false
}

// KeepAdvertisements has an interface that came after the host began to forward take
// router advertisements, if it is hardware or stands for it (a VLAN, a bond): the
// kernel's default asks for them, and forwarding turns that off.
func KeepAdvertisements(name string) error {
	if on, err := Forwards(true); err != nil || !on {
		return err
	}
	c, err := iface.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := c.LinkByName(name)
	if err != nil || d.Master != 0 || !hardware(d) {
		return err
	}
	return keepAdvertisementsOf(name)
}
