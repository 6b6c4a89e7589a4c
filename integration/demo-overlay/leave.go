package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/integration/sandbox"
	"github.com/berth-cni/berth/integration/screen"
)

// bare is what of a host the network changes, but for what containers of every kind share
// and stays by design: forwarding, and the table inet berth.
func bare(h *cluster.Host) (sandbox.Snapshot, error) {
	s, err := h.Look("link", "route", "route6", "rule")
	// One that forwards has the subnet-router anycast address (RFC 4291, section 2.6.1).
	s["route6"] = slices.DeleteFunc(s["route6"], func(line string) bool { return strings.HasPrefix(line, "anycast ") })
	return s, err
}

// showLeave: step 8.
func (l *lab) showLeave() error {
	out, err := l.berth(l.oslo, "network rm "+network)
	l.output(screen.FirstLine(out))
	l.Claim(err != nil && strings.Contains(out, "in use"), "refused, as long as it has containers")
	l.Space()
	var times []string
	for _, c := range l.containers() {
		start := time.Now()
		if err := c.net.Del(c.Container); err != nil {
			return fmt.Errorf("DEL of %s: %w", c.ID, err)
		}
		times = append(times, fmt.Sprintf("%s %.1f ms", c.ID, time.Since(start).Seconds()*1000))
	}
	l.Quote("DEL       " + strings.Join(times, "   "))
	took, err := until(settleTime, func() error {
		_, err := l.quietly(l.oslo, "network rm "+network)
		return err
	})
	l.Quote(screen.Pad("oslo", 8) + " $ berth network rm " + network)
	l.holds(err, "done, %s after the last container went: the agents have told the store", ms(took))
	for _, h := range l.hosts() {
		took, err := until(settleTime, func() error {
			now, err := bare(h)
			if diff := l.bare[h].Diff(now); err == nil && diff != nil {
				err = errors.New(strings.Join(diff, "\n"))
			}
			return err
		})
		l.holds(err, "%s  has the interfaces, routes and rules that it had before  %s", l.Paint(screen.Bold, screen.Pad(h.Name, 6)), l.Paint(screen.Dim, ms(took)))
	}
	l.Space()
	for _, h := range l.hosts() {
		err = errors.Join(err, l.agents[h].Stop())
	}
	l.holds(err, "the agents end by themselves when asked to: exit code 0")
	l.store.Stop()
	l.close()
	return l.nothingLeft()
}

// nothingLeft claims that this machine is as before.
func (l *lab) nothingLeft() error {
	// The kernel may take a moment to end a thread.
	_, _ = until(settleTime, func() error {
		if left := inhabited(l.namespaces); left != nil {
			return fmt.Errorf("in use: %v", left)
		}
		return nil
	})
	after, err := lookAtMachine()
	if err != nil {
		return err
	}
	var running []string
	for _, pid := range l.pids {
		if syscall.Kill(pid, 0) == nil {
			running = append(running, fmt.Sprint(pid))
		}
	}
	names := func(all []string) string { return "[" + strings.Join(all, " ") + "]" }
	l.Equal(fmt.Sprintf("of %d agents and stores still running", len(l.pids)), names(running), "[]")
	l.Equal("other processes of this demo", names(children()), "[]")
	l.Equal(fmt.Sprintf("of %d network namespaces still in use", len(l.namespaces)), names(inhabited(l.namespaces)), "[]")
	l.Equal("interfaces of this machine, as before", names(after.interfaces), names(l.before.interfaces))
	l.Equal("names in /run/netns, as before", names(after.netns), names(l.before.netns))
	return nil
}
