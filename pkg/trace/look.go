package trace

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/names"
	"golang.org/x/sys/unix"
)

// look looks at what is there: the route of the source's, and what the records of both
// containers stand for.
func (f *flow) look(r *Report) {
	f.lookName(r)
	if !f.from.outside() {
		f.lookRoute(r)
	}
	f.lookRecord(r, &f.from, f.source)
	if f.dest != &f.from {
		f.lookRecord(r, f.dest, f.final.Addr())
	}
	if f.published != nil {
		r.step(theHost, OK, "port %d is published for %s, %s", f.target.Port(), names.Called(f.published), f.final)
	}
}

// lookRoute asks the source's kernel how it sends to the target.
func (f *flow) lookRoute(r *Report) {
	var w rtnl.Way
	var link string
	err := within(f.from.ns, func() error {
		c, err := rtnl.Dial()
		if err != nil {
			return err
		}
		defer c.Close()
		if w, err = c.WayTo(f.target.Addr(), netip.Addr{}, 0); err != nil {
			return err
		}
		link = linkName(c, w.Index)
		return nil
	})
	if err != nil {
		why := fmt.Sprintf("no route to %s", f.target.Addr())
		if !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EHOSTUNREACH) {
			why += ": " + err.Error()
		}
		mend := "add a route, or a default route"
		if f.from.ns != nil {
			mend = f.joinNetwork("connect both to one network: berth network connect NETWORK " + f.from.label)
		}
		r.end(f.from.label, Lost, why, mend)
		return
	}
	f.source = w.Source
	r.Source = w.Source
	via := ""
	if w.Gateway.IsValid() {
		via = " by the gateway " + w.Gateway.String()
	}
	r.step(f.from.label, OK, "%s goes out by %s%s, from %s", f.target.Addr(), link, via, w.Source)
}

// joinNetwork is how to have both on one network.
func (f *flow) joinNetwork(otherwise string) string {
	if f.dest != nil && len(f.dest.records) > 0 {
		return fmt.Sprintf("berth network connect %s %s", f.dest.records[0].Network, f.from.label)
	}
	return otherwise
}

// lookRecord compares an attachment with what is there.
func (f *flow) lookRecord(r *Report, e *endpoint, addr netip.Addr) {
	record := e.record(addr)
	if record == nil {
		return
	}
	if err := attach.Check(context.Background(), record); err != nil {
		f.suspect(r, e.label, host.Summary(err), "berth reload")
	}
}

// suspect is what may be the reason, where nothing better is found.
func (f *flow) suspect(r *Report, place, why, mend string) {
	r.Steps = append(r.Steps, Step{place, Note, why})
	f.suspects = append(f.suspects, suspicion{place, why, mend})
}

type suspicion struct{ place, why, mend string }

func linkName(c *rtnl.Conn, index int) string {
	all, err := c.Links()
	if err == nil {
		for _, l := range all {
			if l.Index == index {
				return l.Name
			}
		}
	}
	return fmt.Sprint("interface ", index)
}

// forwards tells whether the host passes on what came in by a link.
func forwards(v4 bool, link string) bool {
	if v4 {
		return proc.NetSetting("ipv4", "conf", link, "forwarding") != "0"
	}
	return proc.NetSetting("ipv6", "conf", "all", "forwarding") != "0"
}

// filtersReverse tells whether the host drops what comes in by a link that the way back
// does not lead to: the larger of two settings counts (Documentation/networking/ip-sysctl).
func filtersReverse(link string) bool {
	return max(proc.NetSetting("ipv4", "conf", "all", "rp_filter"), proc.NetSetting("ipv4", "conf", link, "rp_filter")) == "1"
}
