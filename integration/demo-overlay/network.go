package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/integration/screen"
	"github.com/berth-cni/berth/pkg/overlay"
)

// opening says what all this runs on.
func (l *lab) opening() {
	places, rail := "    ", "      "
	for i, h := range append(l.hosts(), l.store.Members[0].Host) {
		places += screen.Pad(l.Paint(screen.Bold, h.Name)+" "+h.Addr4.String(), 23)
		rail += []string{"└", "┴", "┴", "┘"}[i]
		if i < len(l.hosts()) {
			rail += strings.Repeat("─", 22)
		}
	}
	l.Line("")
	l.Line(l.Paint(screen.Bold, " Berth, the overlay"))
	l.Line("")
	l.Line("    Three hosts and a store, made of namespaces: this machine is not touched.")
	l.Line("")
	l.Line(places)
	l.Line(rail)
	l.Line("")
	l.Quote("Behind “$” is what you would type on that host; here each berth also has the flag",
		"--etcd-endpoints "+l.store.Endpoints()+". ✓ was checked, ✗ is not as it should be.")
}

// node is what `berth node ls` says of a host.
type node struct {
	Name    string
	Address netip.Addr
	Alive   bool
	Blocks  []struct{ Prefix netip.Prefix }
}

// showNetwork: step 1.
func (l *lab) showNetwork() error {
	out, err := l.berth(l.oslo, "network create --driver vxlan-overlay --subnet "+subnet4+" --subnet "+subnet6+" "+network)
	if err != nil {
		return err
	}
	l.output(out)
	for _, h := range l.hosts() {
		if l.bare[h], err = bare(h); err != nil {
			return err
		}
		l.Quote(screen.Pad(h.Name, 8) + " $ berth agent --underlay eth0 &")
	}
	start := time.Now()
	if err := l.start(l.hosts()...); err != nil {
		return err
	}
	if err := l.learnNetwork(); err != nil {
		return err
	}
	if _, err := until(settleTime, l.acquainted); err != nil {
		return err
	}
	took := time.Since(start)
	l.Fast(took < 5*time.Second, "three agents are ready and know each other, %s after they were started", ms(took))
	l.Space()
	if err := l.showNodes(); err != nil {
		return err
	}
	l.Space()
	return l.showConflist()
}

// learnNetwork reads what a host knows of the network.
func (l *lab) learnNetwork() error {
	return l.oslo.Do(func() error {
		local, err := overlay.ReadLocal(overlay.DefaultDataDir, network)
		if err == nil {
			l.blue = local.Network
		}
		return err
	})
}

// acquainted returns nil when every host has the way to all others. An agent is ready before
// that: it knows of the others what the store has told.
func (l *lab) acquainted() error {
	var peers []cluster.Peer
	for _, h := range l.hosts() {
		p, err := h.Peer(network, false)
		if err != nil {
			return err
		}
		peers = append(peers, p)
	}
	for i, h := range l.hosts() {
		got, err := h.Overlay(l.blue)
		if err != nil {
			return err
		}
		if diff := cluster.Wanted(l.blue, peers[i], peers).Diff(got); len(diff) > 0 {
			return fmt.Errorf("%s: %v", h.Name, diff)
		}
		// The firewall's part comes right behind, before the agent answers.
		if _, err := l.agents[h].Metrics(); err != nil {
			return err
		}
	}
	return nil
}

// showConflist shows what a runtime reads. There is one such file for all hosts.
func (l *lab) showConflist() (err error) {
	if l.conflist, err = l.quietly(l.oslo, "network conflist "+network); err != nil {
		return err
	}
	var list struct {
		Name    string
		Plugins []struct {
			Type         string
			Names        bool
			Capabilities json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(l.conflist), &list); err != nil {
		return fmt.Errorf("read what berth network conflist prints: %w", err)
	}
	l.Quote("oslo     $ berth network conflist " + network + " | jq -c '.plugins[] | {type, names}, {capabilities}'")
	for _, p := range list.Plugins {
		var can bytes.Buffer
		if err := json.Compact(&can, p.Capabilities); err != nil {
			return err
		}
		l.Quote(fmt.Sprintf(`{"type":%q,"names":%t}`, p.Type, p.Names), `{"capabilities":`+can.String()+`}`)
	}
	l.Claim(list.Name == network && len(list.Plugins) == 1, "the conflist has no address in it: it is the same on every host")
	return nil
}

// output shows what a command wrote.
func (l *lab) output(text string) { l.Quote(strings.Split(strings.TrimSpace(text), "\n")...) }

// showNodes claims that the store knows the hosts, and that each has blocks of its own.
func (l *lab) showNodes() error {
	out, err := l.berth(l.oslo, "node ls")
	if err != nil {
		return err
	}
	l.output(out)
	nodes, err := l.nodes()
	if err != nil {
		return err
	}
	owned := map[netip.Prefix]string{}
	for _, h := range l.hosts() {
		n := nodes[h.Name]
		var blocks []string
		fresh := len(n.Blocks) == 2
		for _, b := range n.Blocks {
			fresh = fresh && owned[b.Prefix] == "" && (l.within(b.Prefix, subnet4, 24) || l.within(b.Prefix, subnet6, 64))
			owned[b.Prefix] = h.Name
			blocks = append(blocks, b.Prefix.String())
		}
		l.Claim(n.Alive && n.Address == h.Addr4 && fresh, "%s  owns  %s", l.Paint(screen.Bold, screen.Pad(h.Name, 6)), strings.Join(blocks, "  "))
	}
	return nil
}

func (l *lab) within(block netip.Prefix, subnet string, bits int) bool {
	return netip.MustParsePrefix(subnet).Contains(block.Addr()) && block.Bits() == bits
}

// nodes are the hosts as the store has them, by name.
func (l *lab) nodes() (map[string]node, error) {
	out, err := l.quietly(l.oslo, "node ls --format json")
	if err != nil {
		return nil, err
	}
	var list []node
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, fmt.Errorf("read what berth node ls prints: %w", err)
	}
	all := map[string]node{}
	for _, n := range list {
		all[n.Name] = n
	}
	return all, nil
}
