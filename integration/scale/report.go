package main

import (
	"fmt"
	"io"
)

const nameWidth, cellWidth = 46, 24

func title(w io.Writer, name string, cells ...string) {
	fmt.Fprintln(w)
	row(w, name, cells...)
}

func row(w io.Writer, name string, cells ...string) {
	fmt.Fprintf(w, "%-*s", nameWidth, name)
	for _, c := range cells {
		fmt.Fprintf(w, "%*s", cellWidth, c)
	}
	fmt.Fprintln(w)
}

// column is what a row has for each number of peers.
func column(w io.Writer, name string, all []*result, of func(*result) string) {
	cells := []string{}
	for _, r := range all {
		cells = append(cells, of(r))
	}
	row(w, "  "+name, cells...)
}

func printPeers(w io.Writer, p plan, all []*result) {
	heads := []string{}
	for _, r := range all {
		heads = append(heads, fmt.Sprintf("%d peers", r.peers))
	}
	title(w, "From a key to the kernel, ms: p50 / p99 / most", heads...)
	for i, c := range all[0].changes {
		column(w, c.what+": "+[]string{"route", "FDB", "route"}[i], all, func(r *result) string { return r.changes[i].kernel.String() })
		column(w, c.what+": firewall", all, func(r *result) string { return r.changes[i].firewall.String() })
	}
	title(w, "Cost of a change", heads...)
	column(w, "agent's CPU, ms", all, func(r *result) string { return fmt.Sprintf("%.2f", r.perChange*1e3) })
	for i, c := range all[0].changes {
		column(w, c.what+": netlink messages in sends", all, func(r *result) string {
			return fmt.Sprintf("%.1f in %.1f", r.traces[i].messages, r.traces[i].sends)
		})
		column(w, c.what+": system calls", all, func(r *result) string { return fmt.Sprintf("%.0f", r.traces[i].calls) })
	}
	column(w, "open files, and RSS in MB, after all", all, func(r *result) string {
		return fmt.Sprintf("%d, %s", r.after.files, mb(r.after.rss))
	})
	column(w, "requests to etcd, ours among them", all, func(r *result) string { return fmt.Sprintf("%.2f", r.load.total()/r.changed) })

	title(w, "All at once", heads...)
	column(w, "new peers: count, s until routed, CPU s", all, func(r *result) string {
		return fmt.Sprintf("%d, %.2f, %.2f", r.fill.peers, r.fill.took.Seconds(), r.fill.cpu.Seconds())
	})
	column(w, "agent restarted: ready s, CPU s, changes", all, func(r *result) string {
		return fmt.Sprintf("%.2f, %.2f, %d", r.restart.ready.Seconds(), r.restart.cpu.Seconds(), r.restart.changes)
	})
	column(w, "host rebooted: ready s, routed s, CPU s", all, func(r *result) string {
		return fmt.Sprintf("%.2f, %.2f, %.2f", r.reboot.ready.Seconds(), r.reboot.routed.Seconds(), r.reboot.cpu.Seconds())
	})
	column(w, "syncs, writes to etcd: restarted; rebooted", all, func(r *result) string {
		return fmt.Sprintf("%.0f, %d; %.0f, %d", r.restart.syncs, r.restart.writes, r.reboot.syncs, r.reboot.writes)
	})
	for _, rest := range []struct {
		name string
		of   func(*result) *rested
	}{{"probing", func(r *result) *rested { return &r.probing }}, {"without probes", func(r *result) *rested { return &r.quiet }}} {
		title(w, fmt.Sprintf("At rest for %s, %s", p.Rest, rest.name), heads...)
		column(w, "CPU, % of a core", all, func(r *result) string { return fmt.Sprintf("%.2f", rest.of(r).cpu*100) })
		column(w, "memory, MB: RSS, PSS, most", all, func(r *result) string {
			m := rest.of(r).memory
			return mb(m.rss) + ", " + mb(m.pss) + ", " + mb(m.peak)
		})
		column(w, "heap in use, MB; open files", all, func(r *result) string {
			return fmt.Sprintf("%s; %d", mb(int64(rest.of(r).heap)), rest.of(r).memory.files)
		})
		column(w, "kernel changes", all, func(r *result) string { return fmt.Sprint(rest.of(r).events) })
		column(w, "etcd: requests a second", all, func(r *result) string {
			return fmt.Sprintf("%.2f", rest.of(r).load.total()/rest.of(r).over.Seconds())
		})
	}
	title(w, "etcd", heads...)
	column(w, "database in use, MB", all, func(r *result) string { return mb(int64(r.quiet.load.size)) })
	column(w, "CPU at rest, % of a core", all, func(r *result) string {
		return fmt.Sprintf("%.2f", 100*r.quiet.load.cpu/r.quiet.over.Seconds())
	})
	for _, r := range all {
		fmt.Fprintf(w, "  %d peers: a change is %s; at rest in 30 s %s\n", r.peers, r.load.each(r.changed), r.quiet.load.each(r.quiet.over.Seconds()/30))
	}
	printTargets(w, all)
}

// printTargets compares with what Berth promises.
func printTargets(w io.Writer, all []*result) {
	title(w, "Targets", "measured", "wanted", "")
	say := func(what string, got, want float64, unit string) {
		verdict := "reached"
		if got > want {
			verdict = "MISSED"
		}
		row(w, "  "+what, fmt.Sprintf("%.2f %s", got, unit), fmt.Sprintf("< %g %s", want, unit), verdict)
	}
	for _, r := range all {
		if r.peers == 1000 {
			say("memory at 1,000 peers (RSS)", float64(r.probing.memory.rss)/1e6, 60, "MB")
			say("CPU at 1,000 peers, probing", r.probing.cpu*100, 1, "%")
		}
	}
	least, most := all[0], all[len(all)-1]
	for i, c := range least.changes {
		say(fmt.Sprintf("%s, median at %d peers over that at %d", c.what, most.peers, least.peers),
			float64(most.changes[i].firewall.quantile(0.5))/float64(c.firewall.quantile(0.5)), 1.2, "")
		say(fmt.Sprintf("%s, netlink messages, likewise", c.what), most.traces[i].messages/least.traces[i].messages, 1.01, "")
	}
	for _, r := range all {
		say(fmt.Sprintf("kernel changes of a restart at %d peers", r.peers), float64(r.restart.changes), 0.5, "")
	}
}
