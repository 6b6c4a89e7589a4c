package doctor

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/agent"
	"github.com/berth-cni/berth/pkg/overlay/probe"
	"github.com/berth-cni/berth/pkg/overlay/wireguard"
)

// unused tells that this host takes no part in any overlay network: then nothing of
// it can be wrong.
func (f *facts) unused() bool {
	return f.Identity == nil && len(f.Locals) == 0 && f.LocalErr == nil && !f.AgentRuns && (f.Status == nil || !f.Status.Overlay)
}

func checkAgent(f *facts) ([]Problem, error) {
	const why = "hosts and networks that come, go or move are not noticed; containers go on, and are added while this host's blocks last"
	switch {
	case f.unused():
		return nil, nil
	case f.Status == nil && f.AgentRuns:
		return []Problem{problem(fmt.Sprintf("an agent runs, and does not answer on %s: %v", f.Listen, f.StatusErr),
			"nothing is known of what it does", "say the agent's own --listen, or: systemctl restart berth-agent")}, nil
	case f.Status == nil && f.AgentErr != nil:
		return nil, f.AgentErr
	case f.Status == nil:
		return []Problem{problem("no agent runs on this host", why, "systemctl enable --now berth-agent, or: berth agent")}, nil
	case !f.Status.Ready:
		return []Problem{problem("the agent is not ready: "+f.Status.Why, why, "journalctl -u berth-agent says more")}, nil
	}
	return nil, nil
}

func checkStore(f *facts) ([]Problem, error) {
	var found []Problem
	const why = "no network, node or block can be made or removed; what runs goes on, and so do ADDs while blocks last"
	if f.Status != nil && f.Status.Store.Away {
		s := f.Status.Store
		found = append(found, problem(fmt.Sprintf("the agent has lost the store %s ago: %s", host.Age(f.Now.Sub(s.Since)), s.Error),
			why, "look after "+f.Store))
	}
	if f.StoreErr != nil {
		found = append(found, problem(fmt.Sprintf("this program cannot use the store: %v", f.StoreErr),
			why, "look after "+f.Store+", or give this program the agent's flags: --config FILE"))
	}
	return found, nil
}

func checkRefused(f *facts) ([]Problem, error) {
	var found []Problem
	for _, l := range f.Locals {
		why, mend := "no container can be added to it on this host", ""
		switch {
		case l.Refused == "" || strings.HasPrefix(l.Refused, overlay.RefusedRemoved): // checkHistory tells of it
			continue
		case strings.HasPrefix(l.Refused, overlay.RefusedConflict):
			mend = "nothing is wrong with the older network: make this one again in another place, once berth network rm " + l.Network.Name + " has removed it"
		case strings.Contains(l.Refused, overlay.RefusedRoute):
			mend = "see what the route is for (ip route show); then move that, or use another network with another --subnet"
		default:
			why += ": its addresses may be another host's"
			mend = "if this disk is a copy of another host's, then on the copy, once its containers are removed: rm " + f.DataDir +
				"/node.json, and start the agent with another --node-name. If the disk was moved here, the store confirms it as soon as it answers"
		}
		found = append(found, problem(fmt.Sprintf("network %s is refused: %s", l.Network.Name, l.Refused), why, mend, about{network: l.Network.Name}))
	}
	if f.Identity != nil && f.Identity.Token != "" && f.State != nil {
		if n, ok := f.State.Nodes[f.Identity.Node]; ok && n.Token != f.Identity.Token {
			found = append(found, problem(fmt.Sprintf("the store's node %s is another host, at %s", n.Name, n.Address),
				"two hosts with one name would use the same addresses",
				"on the one of the two that is new, once its containers are removed: rm "+f.DataDir+"/node.json, and start its agent with another --node-name"))
		}
	}
	return found, f.LocalErr
}

func checkNetworks(f *facts) ([]Problem, error) {
	if f.Status == nil {
		return nil, nil
	}
	var found []Problem
	for _, n := range f.Status.Networks {
		if n.Problem != "" && n.Refused == "" { // checkRefused tells of the other
			found = append(found, problem(fmt.Sprintf("network %s: %s", n.Name, n.Problem),
				"its containers on this host may not reach those on others", mendNetwork(&n, f.DataDir), about{network: n.Name}))
		}
	}
	return found, nil
}

// mendNetwork says what to do about a network's problem.
func mendNetwork(n *agent.NetworkStatus, dataDir string) string {
	own, preshared := wireguard.KeyPath(dataDir), wireguard.PresharedPath(dataDir, n.Name)
	switch {
	case strings.Contains(n.Problem, own):
		return "if nobody else can have read it: chmod 600 " + own + "; else rm " + own + ", and the agent makes a new one, which the other hosts learn by themselves"
	case strings.Contains(n.Problem, preshared):
		return "write the key that the other hosts have for this network to " + preshared + ", and chmod 600 " + preshared
	}
	return "journalctl -u berth-agent says more"
}

func checkDevices(f *facts) ([]Problem, error) {
	var found []Problem
	const why = "containers of the network on this host do not reach those on others"
	const mend = "a running agent makes it again within seconds: systemctl restart berth-agent"
	for _, l := range f.Locals {
		if len(l.Blocks) == 0 {
			continue
		}
		name := l.Network.Device()
		switch d, ok := f.Devices[name]; {
		case !ok:
			found = append(found, problem(fmt.Sprintf("network %s: there is no device %s", l.Network.Name, name), why, mend, about{network: l.Network.Name}))
		case !d.Up:
			found = append(found, problem(fmt.Sprintf("network %s: device %s is down", l.Network.Name, name), why, "ip link set "+name+" up", about{network: l.Network.Name}))
		}
		// The first ADD makes the bridge.
		if d, ok := f.Devices[l.Network.Bridge()]; ok && !d.Up {
			found = append(found, problem(fmt.Sprintf("network %s: bridge %s is down", l.Network.Name, l.Network.Bridge()),
				"its containers on this host reach nobody", "ip link set "+l.Network.Bridge()+" up", about{network: l.Network.Name}))
		}
	}
	return found, nil
}

func checkForwarding(f *facts) ([]Problem, error) {
	var found []Problem
	v4, v6 := f.Host.families()
	for _, family := range []struct {
		v4, used    bool
		name, write string
	}{{true, v4, "IPv4", "net.ipv4.ip_forward"}, {false, v6, "IPv6", "net.ipv6.conf.all.forwarding"}} {
		used := family.used
		for _, l := range f.Locals {
			has := slices.ContainsFunc(l.Blocks, func(p netip.Prefix) bool { return p.Addr().Is4() == family.v4 })
			_, made := f.Devices[l.Network.Bridge()] // the first ADD makes it, and switches forwarding on
			used = used || has && made
		}
		if used && f.Forwards[family.v4] == "0" {
			found = append(found, problem("this host does not forward "+family.name,
				"containers reach nobody beyond their own bridge, and their published ports nobody", mendForwarding(family.v4, family.write)))
		}
	}
	return found, nil
}

// mendForwarding says how forwarding is switched on. With IPv6 a host that forwards takes
// no router advertisements any more unless told so (Linux, ip-sysctl, accept_ra): it
// would lose its own way out.
func mendForwarding(v4 bool, setting string) string {
	mend := "sysctl -w " + setting + "=1"
	if !v4 {
		mend = "where this host's own IPv6 route comes from router advertisements (ip -6 route show default: proto ra), first " +
			"sysctl -w net.ipv6.conf.DEVICE.accept_ra=2; then " + mend
	}
	return mend
}

func checkMTU(f *facts) ([]Problem, error) {
	var found []Problem
	for _, l := range f.Locals {
		d, ok := f.Devices[l.Network.Device()]
		if ok && l.MTU != 0 && d.MTU != l.MTU {
			found = append(found, problem(fmt.Sprintf("network %s: device %s has MTU %d, not %d", l.Network.Name, l.Network.Device(), d.MTU, l.MTU),
				"packets are too large for the way, or smaller than they could be", fmt.Sprintf("ip link set %s mtu %d", l.Network.Device(), l.MTU), about{network: l.Network.Name}))
		}
		if f.Status == nil || !f.Status.Underlay.Address.IsValid() {
			continue
		}
		u := f.Status.Underlay
		if room := u.MTU - l.Network.Overhead(u.Address); l.MTU > room {
			found = append(found, problem(fmt.Sprintf("network %s has MTU %d, and %s (MTU %d) leaves %d", l.Network.Name, l.MTU, u.Device, u.MTU, room),
				"large packets are lost or cut up on their way to other hosts", fmt.Sprintf("if the network between the hosts carries it: ip link set %s mtu %d; else another network with --mtu %d", u.Device, l.MTU+l.Network.Overhead(u.Address), room), about{network: l.Network.Name}))
		}
	}
	return append(found, checkBridgeMTU(f)...), nil
}

// checkProbes tells of the black holes that the agent found.
func checkProbes(f *facts) ([]Problem, error) {
	if f.Status == nil {
		return nil, nil
	}
	var found []Problem
	for _, n := range f.Status.Networks {
		peers, states := map[string][]string{}, map[string]string{} // by verdict
		for _, x := range n.Probes.Failing {
			states[x.Verdict] = x.State
			peers[x.Verdict] = append(peers[x.Verdict], fmt.Sprintf("%s (for %s)", x.Peer, host.Age(f.Now.Sub(x.Since))))
		}
		for _, verdict := range slices.Sorted(maps.Keys(peers)) {
			found = append(found, problem(fmt.Sprintf("network %s: to %s: %s", n.Name, host.Some(peers[verdict]), verdict),
				"containers here and there do not reach each other, or not with all packets",
				mendProbe(states[verdict], &n, f), about{network: n.Name}))
		}
	}
	return found, nil
}

// mendProbe says what to do about what a probe found.
func mendProbe(state string, n *agent.NetworkStatus, f *facts) string {
	switch state {
	case probe.SmallMTU.String():
		return fmt.Sprintf("let packets of the underlay's MTU (%d) pass between the hosts, or make the network anew with a smaller --mtu", f.Status.Underlay.MTU)
	case probe.BadChecksum.String():
		return fmt.Sprintf("nothing: the agent switches checksum offload off on %s; update the driver of the host's network card to have it back", n.Device)
	}
	mend := fmt.Sprintf("on the hosts and between them, let UDP port %d pass; see that the other host's agent runs", n.Port)
	if n.Encrypted {
		mend += ", and that both hosts have the same " + wireguard.PresharedPath(f.DataDir, n.Name) + ", or neither has one"
	} else if count := f.Status.Dropped[firewall.Injected]; count > 0 {
		mend += fmt.Sprintf(". This host has dropped %d packets itself, as no peer's (nft list counter inet berth injected): where the way back to "+
			"the peer (ip route get ADDRESS) is not by the device that its packets come in by, and that is no hardware's, make it so", count)
	}
	return mend
}

// Shares that are worth a word: of addresses that are free, when the agent should
// have claimed another block long ago, and of blocks that are owned.
const (
	fewFree     = 0.1
	nearlyOwned = 0.95
)

func checkBlocks(f *facts) ([]Problem, error) {
	var found []Problem
	if f.Status != nil {
		for _, n := range f.Status.Networks {
			for _, v4 := range []bool{true, false} {
				size, free := 0.0, 0.0
				for _, b := range n.Blocks {
					if b.Prefix.Addr().Is4() == v4 {
						size, free = size+b.Size, free+b.Free
					}
				}
				if size > 0 && free < fewFree*size {
					found = append(found, problem(fmt.Sprintf("network %s: %.0f of the %.0f addresses of this host's blocks are free", n.Name, free, size),
						"soon no container can be added: the agent could not claim another block",
						"berth node ls shows who is away; berth node rm NAME gives back the blocks of a host that is gone for good", about{network: n.Name}))
				}
			}
		}
	}
	if f.State != nil {
		for _, name := range slices.Sorted(maps.Keys(f.State.Networks)) {
			n := f.State.Networks[name]
			found = append(found, scarce(&n, f.State)...)
		}
	}
	return found, nil
}

// scarce tells which subnets of a network have few blocks left.
func scarce(n *overlay.Network, s *overlay.State) []Problem {
	var found []Problem
	for i, subnet := range n.Subnets {
		bits := n.NodePrefix[i] - subnet.Bits()
		taken := 0
		for k := range s.Blocks {
			if k.Network == n.Name && k.Prefix.Addr().Is4() == subnet.Addr().Is4() {
				taken++
			}
		}
		const wide = 20 // bits: more blocks than any store holds
		if total := 1 << min(bits, wide); bits < wide && taken > 1 && float64(taken) >= nearlyOwned*float64(total) {
			found = append(found, problem(fmt.Sprintf("network %s: %d of the %d blocks of %s are owned", n.Name, taken, total, subnet),
				"a host that comes, or one whose block is full, gets none", "berth node ls shows who is away; berth node rm NAME gives back the blocks of a host that is gone for good. Or another network with a wider subnet or a longer --node-prefix", about{network: n.Name}))
		}
	}
	return found
}

func checkOverlaps(f *facts) ([]Problem, error) {
	var found []Problem
	for _, l := range f.Locals {
		for _, what := range link.Overlaps(l.Network.Subnets, f.Routes) {
			found = append(found, problem(fmt.Sprintf("network %s: %s", l.Network.Name, what),
				"packets for one of the two go to the other", "see what the route is for (ip route show); then move that, or use another network with another --subnet", about{network: l.Network.Name}))
		}
	}
	return append(found, checkHostOverlaps(&f.Host, f.Routes)...), f.RoutesErr
}

func checkStoreData(f *facts) ([]Problem, error) {
	if f.State == nil {
		return nil, nil // checkStore says why
	}
	var found []Problem
	for _, key := range slices.Sorted(maps.Keys(f.State.Bad)) {
		found = append(found, problem(fmt.Sprintf("key %s: %v", key, f.State.Bad[key]),
			"no host uses what it says; what hosts remember of it goes on", mendKey(key)))
	}
	conflicts := f.State.Conflicts()
	for _, name := range slices.Sorted(maps.Keys(conflicts)) {
		found = append(found, problem(fmt.Sprintf("network %s: %s", name, strings.ReplaceAll(conflicts[name].Error(), "\n", "; ")),
			"no host uses it, the older network wins", "berth network rm "+name+", which leaves the older one alone", about{network: name}))
	}
	return found, nil
}

// mendKey says what to do about a key that nobody can use. What was there before it was
// spoiled is given back: nodes and blocks by their hosts, networks by a command.
func mendKey(key string) string {
	mend := "look at it (etcdctl get), and remove what is not Berth's: etcdctl del " + quote(key)
	if _, name, ok := strings.Cut(key, "/networks/"); ok && !strings.Contains(key, "/removed/") && overlay.ValidName(name) == nil {
		mend += "; then berth network restore " + name + " gives back what it was"
	}
	return mend
}

// quote makes one word of a text for a shell: a key of the store is anybody's.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
