package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-cni/berth/integration/sandbox"
	"github.com/berth-cni/berth/integration/screen"
)

// showMade: step 7.
func (l *lab) showMade() error {
	if err := l.draw(); err != nil {
		return err
	}
	l.Space()
	if err := l.showTable(); err != nil {
		return err
	}
	l.Space()
	return l.showRecords()
}

// draw draws the host as `ip addr` has it, on the host and in each container.
func (l *lab) draw() error {
	host, err := l.host.interfaces()
	if err != nil {
		return err
	}
	t, err := l.host.table()
	if err != nil {
		return err
	}
	names := func(i iface) string { return strings.Join(i.addresses(), "  ") }
	l.Line("    " + l.Paint(screen.Bold, "host"))
	l.Line("    ├── " + screen.Pad(sandbox.Uplink, 9) + screen.Pad(names(host[sandbox.Uplink]), 33) + "── " + l.Paint(screen.Bold, "outside"))
	l.Line("    └── " + screen.Pad(bridge, 9) + names(host[bridge]))
	joined := 0
	for n, c := range l.containers() {
		inside, err := c.interfaces()
		if err != nil {
			return err
		}
		branch := "├"
		if n == len(l.containers())-1 {
			branch = "└"
		}
		eth0, end := inside["eth0"], l.portTo(host, inside["eth0"])
		if end == c.got.hostIf {
			joined++
		}
		l.Line(fmt.Sprintf("        %s── %s ── eth0  %s  %s  %s", branch, screen.Pad(end, 15), l.Paint(screen.Bold, screen.Pad(c.ID, 6)),
			screen.Pad(names(eth0), 28), t.publishedTo(c)))
	}
	l.Space()
	l.Claim(joined == 3 && len(ports(host)) == 3, "%d ports on %s, each the other end of one container's eth0", len(ports(host)), bridge)
	return nil
}

// publishedTo says which ports of the host lead to the container.
func (t *table) publishedTo(c *container) string {
	for _, e := range t.sets["ports4"] {
		from, to, _ := strings.Cut(e.text, " : ")
		if protocol, port, ok := strings.Cut(from, " . "); ok && strings.HasPrefix(to, c.got.v4+" . ") {
			return fmt.Sprintf("← host port %s/%s", port, protocol)
		}
	}
	return ""
}

// ports are the names of the bridge's ports.
func ports(host map[string]iface) []string {
	var all []string
	for name, i := range host {
		if i.Master == bridge {
			all = append(all, name)
		}
	}
	return sorted(all...)
}

// portTo is the bridge's port that is the other end of a container's interface.
func (l *lab) portTo(host map[string]iface, eth0 iface) string {
	for _, name := range ports(host) {
		if i := host[name]; i.Index == eth0.Peer && i.Peer == eth0.Index {
			return name
		}
	}
	return "nothing"
}

// containerSets are the table's sets and maps that have elements for containers.
var containerSets = []string{"own4", "own6", "masq4", "masq6", "ports4", "ports4_ip", "ports6", "ports6_ip"}

// showTable shows the elements of the firewall's table, and claims that they are
// what the containers' addresses and ports ask for.
func (l *lab) showTable() error {
	t, err := l.host.table()
	if err != nil {
		return err
	}
	l.Quote("host     $ nft list table inet berth")
	for _, set := range containerSets {
		var texts []string
		for _, e := range t.sets[set] {
			texts = append(texts, e.text)
		}
		if len(texts) > 0 {
			l.Line("    " + screen.Pad(set, 8) + "{ " + strings.Join(texts, ", ") + " }")
		}
	}
	l.Space()
	want := l.wantedElements()
	good := true
	for _, set := range containerSets {
		good = good && slices.Equal(t.sets[set], want[set])
	}
	l.Claim(good, "containers are elements that carry the key of their attachment: web2's is %s", key(l.web2))
	l.Claim(t.rules == l.rulesWithOne, "%d rules, as many as there were with one container", t.rules)
	return nil
}

// key is the attachment's: what follows "veth" in the host interface's name.
func key(c *container) string { return strings.TrimPrefix(c.got.hostIf, "veth") }

func (l *lab) wantedElements() map[string][]element {
	want := map[string][]element{}
	for _, c := range l.containers() {
		add := func(set, format string, args ...any) {
			want[set] = append(want[set], element{fmt.Sprintf(format, args...), key(c)})
		}
		add("own4", "%s . %s", c.got.v4, bridge)
		add("own6", "%s . %s", c.got.v6, bridge)
		add("masq4", "%s", c.got.v4)
		add("masq6", "%s", c.got.v6)
		if p := c.port; p != nil {
			add("ports4", "%s . %d : %s . %d", p.Protocol, p.HostPort, c.got.v4, p.ContainerPort)
			add("ports6", "%s . %d : %s . %d", p.Protocol, p.HostPort, c.got.v6, p.ContainerPort)
		}
	}
	for _, elements := range want {
		slices.SortFunc(elements, func(a, b element) int { return strings.Compare(a.text, b.text) })
	}
	return want
}

// showRecords shows where the records are, and claims how many.
func (l *lab) showRecords() error {
	var files []string
	err := l.host.do(func() error {
		entries, err := os.ReadDir(sandbox.StateDir)
		for _, e := range entries {
			files = append(files, e.Name())
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("look for the records: %w", err)
	}
	l.Quote("host     $ ls " + filepath.Clean(sandbox.StateDir))
	l.Line("    " + strings.Join(files, "  "))
	r, err := l.records()
	if err != nil {
		return err
	}
	l.Claim(len(r["attachments"]) == 3 && len(r["leases"]) == 6 && len(r["ports"]) == 2,
		"the store has %d records, %d leases (two families), %d published ports (two families)",
		len(r["attachments"]), len(r["leases"]), len(r["ports"]))
	return nil
}
