package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/firewall/allow"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/install"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/vxlan"
)

// Reset says how a host is to be as if Berth had never been there.
type Reset struct {
	DryRun bool
	Force  bool   // cut containers off
	BinDir string // where an agent has installed plugins
	// Report is told of what was removed, and of what was left on purpose.
	Report func(host.Event)

	h *Host
	n *Networks
}

// Reset removes all that Berth has on the host, and goes on after an error: a second run
// removes what is left. It refuses while an agent runs, which would make it again, and, unless
// it is forced, while containers are attached.
func (h *Host) Reset(ctx context.Context, r Reset) error {
	r.h = h
	unlock, err := overlay.LockAgent(h.Store.Dir())
	if errors.Is(err, overlay.ErrAgentRuns) {
		return fmt.Errorf("%w, and would make it all again: stop it first (systemctl disable --now berth-agent, or delete its DaemonSet)", err)
	}
	if err != nil {
		return err
	}
	defer unlock()
	if r.n, err = h.Local(ctx); err != nil {
		return err
	}
	if err := r.attached(); err != nil {
		return err
	}
	var errs []error
	for _, part := range []func(context.Context) error{
		r.conflists, // first: no runtime attaches anything more
		r.attachments, r.openings, r.overlays, r.links, r.rules, r.plugins,
		r.folders, // last: a run that is cut off finds what the next one needs
	} {
		errs = append(errs, part(ctx))
	}
	r.Report(host.Event{Action: host.Left, What: "forwarding of packets", Why: "something else on this host may need it: sysctl net.ipv4.ip_forward, net.ipv6.conf.all.forwarding, and accept_ra=2 of devices with it"})
	return errors.Join(errs...)
}

// do removes one thing, or says that it would.
func (r *Reset) do(what, why string, remove func() error) error {
	action := host.Surplus
	if !r.DryRun {
		if err := remove(); err != nil {
			return fmt.Errorf("remove %s: %w", what, err)
		}
		action = host.Removed
	}
	r.Report(host.Event{Action: action, What: what, Why: why})
	return nil
}

// attached tells which containers would be cut off.
func (r *Reset) attached() error {
	links, err := host.ListLinks()
	if err != nil || r.Force {
		return err
	}
	living := host.Unrecorded(links, r.n.Records)
	for _, a := range r.n.Records {
		if state, _ := host.StateOf(a, links, r.h.Now()); state != host.Gone {
			living = append(living, a.Key.String())
		}
	}
	if len(living) > 0 {
		return fmt.Errorf("containers are attached, %s: --force cuts them off", host.Some(living))
	}
	return nil
}

// conflists are those that Berth wrote: of 'berth network create', and of an agent.
func (r *Reset) conflists(context.Context) error {
	var errs []error
	for _, f := range r.n.Files {
		switch {
		case f.Mark != nil, f.Driver() == conflist.Overlay && r.written(f):
			errs = append(errs, r.do(f.Path, "", func() error { return r.h.Dir.Remove(f) }))
		case slices.Contains([]string{conflist.Bridge, conflist.Overlay, conflist.Macvlan, conflist.IPVlan}, f.Driver()):
			r.Report(host.Event{Action: host.Left, What: f.Path, Why: "somebody else wrote it"})
		}
	}
	return errors.Join(errs...)
}

// written tells whether an agent or 'berth network install' wrote the file.
func (r *Reset) written(f *conflist.File) bool {
	copied, err := os.ReadFile(filepath.Join(r.h.DataDir, "conflist", f.Name+".conflist"))
	if err == nil && string(copied) == string(f.Data) {
		return true
	}
	l, err := overlay.ReadLocal(r.h.DataDir, f.Name)
	return err == nil && string(l.Network.Conflist(overlay.Plugin, "")) == string(f.Data)
}

func (r *Reset) attachments(ctx context.Context) error {
	var errs []error
	for _, a := range r.n.Records {
		errs = append(errs, r.do("attachment "+a.Key.String(), "", func() error {
			if err := r.h.Store.Del(ctx, a.Key); !errors.Is(err, attach.ErrNotFound) {
				return err
			}
			return nil
		}))
	}
	return errors.Join(errs...)
}

// openings are what other firewalls on the host were told to let through.
func (r *Reset) openings(ctx context.Context) error {
	ways := map[string]allow.Forward{}
	for _, n := range r.n.Known {
		if n.Link != "" {
			ways[n.Link] = allow.Forward{Bridge: n.Link}
		}
	}
	locals, err := overlay.ListLocal(r.h.DataDir)
	errs := []error{err}
	for _, l := range locals {
		ways[l.Network.Bridge()] = allow.Forward{Bridge: l.Network.Bridge(), Tunnel: l.Network.Device()}
	}
	for _, name := range slices.Sorted(maps.Keys(ways)) {
		way := ways[name]
		errs = append(errs, r.do("the way of "+name+" through other firewalls", "", func() error { return way.Remove(ctx) }))
	}
	if len(locals) > 0 {
		errs = append(errs, r.do("the way of VXLAN packets through other firewalls", "", func() error { return allow.VXLAN(ctx, nil) }))
	}
	return errors.Join(errs...)
}

// overlays are the devices that lead to other hosts, and the routes of theirs.
func (r *Reset) overlays(context.Context) error {
	h, err := vxlan.Open()
	if err != nil {
		return err
	}
	defer h.Close()
	links, err := host.ListLinks()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(links)) {
		if links[name].Alias == vxlan.Alias {
			r.Report(host.Event{Action: r.action(), What: "device " + name + " with its routes"})
		}
	}
	if r.DryRun {
		return nil
	}
	_, err = h.Sweep()
	return err
}

func (r *Reset) action() host.Action {
	if r.DryRun {
		return host.Surplus
	}
	return host.Removed
}

// links are the bridges that Berth made, and ends of veth pairs that lead nowhere.
func (r *Reset) links(context.Context) error {
	links, err := host.ListLinks()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(links)) {
		l := links[name]
		switch {
		case !l.Shared() && !isVeth(l):
		case l.Shared() && l.Kind == "bridge" && hasPorts(links, l):
			r.Report(host.Event{Action: host.Left, What: "bridge " + name, Why: "it has ports that are not Berth's"})
		case !r.DryRun || l.Shared():
			errs = append(errs, r.do("interface "+name, "", func() error { return link.Delete(name) }))
		}
	}
	return errors.Join(errs...)
}

// isVeth tells whether an interface has the name of an attachment's.
func isVeth(l link.Link) bool {
	hash, ok := strings.CutPrefix(l.Name, "veth")
	return ok && l.Kind == "veth" && attach.IsHash(hash)
}

func hasPorts(links host.Links, bridge link.Link) bool {
	for _, l := range links {
		if l.Master == bridge.Index && !isVeth(l) {
			return true
		}
	}
	return false
}

func (r *Reset) rules(ctx context.Context) error {
	removed, err := firewall.Reset(ctx, r.DryRun)
	for _, what := range removed {
		r.Report(host.Event{Action: r.action(), What: what})
	}
	return err
}

func (r *Reset) plugins(context.Context) error {
	names, err := install.Installed(r.BinDir)
	errs := []error{err}
	for _, name := range names {
		path := filepath.Join(r.BinDir, name)
		errs = append(errs, r.do(path, "", func() error { return os.Remove(path) }))
	}
	return errors.Join(errs...)
}

// folders are what Berth remembers. A folder itself may be a mount, and stays then.
func (r *Reset) folders(context.Context) error {
	var errs []error
	for _, dir := range []string{r.h.Store.Dir(), r.h.DataDir} {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		errs = append(errs, err, r.do(dir, "", func() error {
			var errs []error
			for _, e := range entries {
				errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
			}
			_ = os.Remove(dir)
			return errors.Join(errs...)
		}))
	}
	return errors.Join(errs...)
}
