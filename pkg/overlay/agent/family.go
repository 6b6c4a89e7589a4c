package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/replica"
)

// familyPatience is how long a host that has no address of the overlay's family waits for
// one before it tells the store of its other address: as it boots, router advertisements
// come before DHCP has answered, and a DHCP client may take an address away to renew it.
const familyPatience = 10 * time.Second

// lacking is that the host has no address of the family that the store's nodes agree on.
type lacking struct {
	family overlay.Family // 0: it has no address at all
	since  time.Time
	err    error       // why it has none
	only   underlay    // what it has instead
	timer  *time.Timer // of the patience; nil where nothing is waited for
}

// awaitUnderlay waits for the network that the host may not have yet as it boots. It
// reports whether it came before the context ended.
func (a *Agent) awaitUnderlay(ctx context.Context) bool {
	agreed := overlay.NewState()
	if u, err := replica.Read(a.DataDir); err == nil { // remember tells of an error
		agreed.Apply(u)
	}
	told := ""
	for tries := 0; ; tries++ {
		all, err := findUnderlays(a.Underlay, netip.Addr{})
		if err == nil {
			a.underlay, a.lacks = choose(all, agreed.Family()), nil
			return true
		}
		if err.Error() != told {
			told = err.Error()
			a.Log.Error("waiting for the underlay", "error", err)
		}
		a.lacks = &lacking{err: err}
		if tries == enough { // the store is not reached without
			a.cutOff()
		}
		if !a.answer(ctx, time.Second) {
			return false
		}
	}
}

// enough is how often the underlay is looked for, once a second, before a host that has
// booted goes on without.
const enough = 5

// answer does what the loop does but compare, for some time. It reports whether the
// context goes on.
func (a *Agent) answer(ctx context.Context, d time.Duration) bool {
	for over := time.After(d); ; {
		select {
		case <-ctx.Done():
			return false
		case fn := <-a.inbox:
			fn()
		case <-over:
			return true
		}
	}
}

// choose takes the underlay of a family, the first where there is none.
func choose(all []underlay, f overlay.Family) underlay {
	for _, u := range all {
		if u.family() == f {
			return u
		}
	}
	return all[0]
}

// checkUnderlay follows a change of the host's address, device or MTU, and of the family
// that the store's nodes agree on.
func (a *Agent) checkUnderlay() {
	all, err := findUnderlays(a.Config.Underlay, a.underlay.addr)
	if err != nil {
		a.Log.Debug("underlay", "error", err) // cut off for now: what was goes on
		a.lack(&lacking{err: err})
		return
	}
	want := a.state.Family()
	if a.alone() { // IPv4 if there is some
		a.lack(nil)
		a.moveTo(all[0])
		return
	}
	now := choose(all, want)
	if now.family() == want {
		a.lack(nil)
	} else if a.lack(&lacking{family: want, only: all[0]}); a.waits() && a.underlay.family() == want {
		return // it may come back
	}
	a.moveTo(now)
}

// alone tells whether the store knows no other node.
func (a *Agent) alone() bool {
	_, known := a.state.Nodes[a.id.Node]
	return len(a.state.Nodes) == 0 || known && len(a.state.Nodes) == 1
}

// moveTo has the overlay use another underlay.
func (a *Agent) moveTo(now underlay) {
	if now == a.underlay {
		return
	}
	a.Log.Info("the underlay changed", "device", now.device, "address", now.addr, "mtu", now.mtu, "was", a.underlay.addr)
	a.underlay = now
	a.reregister()
	a.reconcile()
}

// lack notes what the host lacks; nil for nothing.
func (a *Agent) lack(now *lacking) {
	was := a.lacks
	if a.lacks = now; was != nil && (now == nil || now.family != was.family) && was.timer != nil {
		was.timer.Stop()
	}
	switch {
	case now == nil:
		if was != nil {
			a.Log.Info("not cut off from the other hosts any more")
			a.reregister() // which may have waited for it
		}
	case was != nil && was.family == now.family:
		now.since, now.timer = was.since, was.timer
	default:
		now.since = time.Now()
		a.Log.Warn("cut off from the other hosts", "why", a.lacksWhy())
		if _, err := netip.ParseAddr(a.Underlay); err != nil && now.family != 0 { // not one that somebody has chosen
			now.timer = time.AfterFunc(familyPatience, func() {
				a.do(a.ctx, func() { a.checkUnderlay(); a.reregister() })
			})
		}
	}
}

// waits tells whether an address of the right family may come yet.
func (a *Agent) waits() bool {
	return a.lacks != nil && a.lacks.timer != nil && time.Since(a.lacks.since) < familyPatience
}

// lacksWhy names what the host lacks; empty for nothing.
func (a *Agent) lacksWhy() string {
	if a.lacks == nil {
		return ""
	}
	if a.lacks.err != nil {
		return a.lacks.err.Error()
	}
	why := fmt.Sprintf("this host has only %s on %s, the overlay's hosts use %s", a.lacks.only.addr, a.lacks.only.device, a.lacks.family)
	if names := a.nodesOf(a.lacks.family); names != "" {
		why += ": " + names
	}
	return why
}

// nodesOf names other nodes that have an address of a family: some, and how many more
// there are.
func (a *Agent) nodesOf(f overlay.Family) string {
	var names []string
	for name, n := range a.state.Nodes {
		if overlay.FamilyOf(n.Address) == f && name != a.id.Node {
			names = append(names, name)
		}
	}
	const some = 3
	slices.Sort(names)
	if len(names) > some {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:some], ", "), len(names)-some)
	}
	return strings.Join(names, ", ")
}
