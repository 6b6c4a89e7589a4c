package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/berth-cni/berth/integration/floor"
	"github.com/berth-cni/berth/integration/sandbox"
	"github.com/berth-cni/berth/pkg/overlay"
)

// modeResult is what one of the other modes costs, or what it stands beside.
type modeResult struct {
	Name string `json:"name"`
	sampled
}

const macvlanFloorName = "kernel floor of macvlan"

// otherModes are the other plugins, by name, in the order of the report, and the bridge
// for comparison. "owner" is a container on Berth's bridge.
var otherModes = []struct{ name, plugin string }{
	{"none", `{"type": "none"}`},
	{"loopback", `{"type": "loopback"}`},
	{"host", `{"type": "host"}`},
	{"container-share", `{"type": "container-share", "container": "owner"}`},
	{"macvlan", `{"type": "macvlan", "master": "` + sandbox.Uplink + `", "ipam": {
		"ranges": [[{"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.100", "gateway": "` + sandbox.OutsideAddr4 + `"}]],
		"routes": [{"dst": "0.0.0.0/0"}]}}`},
	{bridgeMode, `{"type": "bridge", "bridge": "ofbridge", "isDefaultGateway": true, "ipMasq": true, "ipam": {"subnet": "10.41.0.0/16"}}`},
	{routedMode, `{"type": "bridge", "mode": "routed", "isDefaultGateway": true, "ipMasq": true, "ipam": {"subnet": "10.44.0.0/16"}}`},
	{overlayMode, `{"type": "vxlan-overlay"}`},
	{routedOverlayMode, `{"type": "vxlan-overlay", "mode": "routed"}`},
	{namesMode, `{"type": "bridge", "bridge": "ofnames", "isDefaultGateway": true, "ipMasq": true, "names": true, "ipam": {"subnet": "10.43.0.0/16"}}`},
}

const (
	bridgeMode, overlayMode, namesMode = "bridge", "vxlan-overlay", "bridge with names"
	routedMode, routedOverlayMode      = "bridge routed", "vxlan-overlay routed"
)

// overlayNetwork is what an agent would have written: an ADD needs no more.
func overlayNetwork(mode string, vni int, second byte) *overlay.Local {
	prefix := func(third byte, bits int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, second, third, 0}), bits)
	}
	return &overlay.Local{Node: "a", MTU: 1450,
		Network: overlay.Network{Name: networkOf(mode), ID: "1", VNI: vni, Port: overlay.DefaultPort,
			Subnets: []netip.Prefix{prefix(0, 16)}, NodePrefix: []int{24}},
		Blocks: []netip.Prefix{prefix(3, 24)}}
}

// networkOf is the name of a mode's network.
func networkOf(mode string) string { return "of-" + strings.ReplaceAll(mode, " ", "-") }

// racer is one of the modes on the host of all.
type racer struct {
	contestant
	arena   *arena
	subject *sandbox.Container
}

// modes samples ADD and DEL of the other modes, of a plugin that does nothing and of
// macvlan's floor, interleaved on one host; nil without Berth.
func modes(contestants []*contestant, p plan) ([]*modeResult, error) {
	named := func(name string) int {
		return slices.IndexFunc(contestants, func(c *contestant) bool { return c.Name == name })
	}
	own := named(berthName)
	if own < 0 {
		return nil, nil
	}
	progress("the other modes")
	h, err := sandbox.New()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	stop, err := startAgent(h, contestants[own].dirs[0])
	if err != nil {
		return nil, err
	}
	defer stop()
	racers, err := modeRacers(h, contestants[own], contestants[named(noopName)])
	if err != nil {
		return nil, err
	}
	var results []*modeResult
	for _, r := range racers {
		results = append(results, &modeResult{Name: r.Name})
		// The first of a network makes what is shared.
		for range 3 {
			if err := r.round(r.arena, r.subject, &sampled{}); err != nil {
				return nil, err
			}
		}
	}
	for i := range p.ModeRounds {
		for j := range racers {
			at := (i + j) % len(racers)
			r := racers[at]
			if err := r.round(r.arena, r.subject, &results[at].sampled); err != nil {
				return nil, err
			}
		}
	}
	return results, nil
}

// startAgent runs the agent that answers for containers.
func startAgent(h *sandbox.Host, bin string) (stop func(), err error) {
	agent := exec.Command(filepath.Join(bin, "berth"), "agent")
	if err := h.Do(agent.Start); err != nil {
		return nil, err
	}
	stop = func() {
		_ = agent.Process.Kill()
		_ = agent.Wait()
	}
	for range 100 {
		if err = h.Do(func() error { _, err := os.Stat("/run/berth/agent.sock"); return err }); err == nil {
			return stop, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	stop()
	return nil, fmt.Errorf("the agent did not start: %w", err)
}

// modeRacers makes the host's networks, and a container for each.
func modeRacers(h *sandbox.Host, berth, noop *contestant) ([]*racer, error) {
	if _, err := h.Outside(); err != nil {
		return nil, err
	}
	if err := attachOwner(h, berth); err != nil {
		return nil, err
	}
	err := h.Do(func() error {
		return errors.Join(overlayNetwork(overlayMode, 4097, 42).Write(overlay.DefaultDataDir),
			overlayNetwork(routedOverlayMode, 4098, 45).Write(overlay.DefaultDataDir))
	})
	if err != nil {
		return nil, err
	}
	racers := []*racer{{contestant: contestant{conflist: noop.conflist, dirs: noop.dirs}}}
	racers[0].Name = noopName
	for _, m := range otherModes {
		r := &racer{contestant: contestant{dirs: berth.dirs,
			conflist: fmt.Sprintf(`{"cniVersion": "1.0.0", "name": %q, "plugins": [%s]}`, networkOf(m.name), m.plugin)}}
		r.Name = m.name
		racers = append(racers, r)
	}
	bare := &racer{}
	bare.Name = macvlanFloorName
	racers = append(racers, bare)
	for i, r := range racers {
		var err error
		if r.subject, err = h.Container(fmt.Sprintf("m%d", i)); err != nil {
			return nil, err
		}
		if r.arena, err = r.modeArena(h); err != nil {
			return nil, fmt.Errorf("%s: %w", r.Name, err)
		}
	}
	return racers, nil
}

func attachOwner(h *sandbox.Host, berth *contestant) error {
	owner, err := h.Container("owner")
	if err != nil {
		return err
	}
	net, err := h.Network(berth.conflist, berth.dirs...)
	if err != nil {
		return err
	}
	if _, err := net.Add(owner); err != nil {
		return fmt.Errorf("ADD of the container to share with: %w", err)
	}
	return nil
}

// modeArena is what [racer.round] calls: libcni, or the floor of macvlan.
func (r *racer) modeArena(h *sandbox.Host) (*arena, error) {
	a := &arena{host: h}
	if r.conflist != "" {
		n, err := h.Network(r.conflist, r.dirs...)
		if err != nil {
			return nil, err
		}
		net := n.Here()
		if r.Name == namesMode { // somebody lives there: the agent listens
			resident, err := h.Container("resident")
			if err != nil {
				return nil, err
			}
			if _, err := n.Add(resident); err != nil {
				return nil, err
			}
		}
		a.add = func(_ int, c *sandbox.Container) error { _, err := net.Add(c); return err }
		a.del = func(_ int, c *sandbox.Container) error { return net.Del(c) }
		return a, nil
	}
	bare := floor.Macvlan{Name: "eth0", MAC: [6]byte{2, 0x42, 192, 0, 2, 90}, Netns: r.subject.Netns,
		Address: netip.MustParsePrefix("192.0.2.90/24"), Gateway: netip.MustParseAddr(sandbox.OutsideAddr4)}
	err := h.Do(func() (err error) {
		bare.Master, err = floor.Index(sandbox.Uplink)
		return err
	})
	a.add = func(int, *sandbox.Container) error { return bare.Add() }
	a.del = func(int, *sandbox.Container) error { return bare.Del() }
	return a, err
}

func (r report) printModes(w io.Writer) {
	if len(r.Modes) == 0 {
		return
	}
	title(w, "The other modes, ms: p50 / p90", "ADD", "DEL")
	for _, m := range r.Modes {
		cells := []string{}
		for _, t := range []times{m.Add, m.Del} {
			cells = append(cells, fmt.Sprintf("%s / %s", ms(t.median()), ms(t.quantile(0.9))))
		}
		row(w, m.Name, cells...)
	}
	fmt.Fprintf(w, "  All on one host, without ports. The floor has no process; nothing is one process.\n")
}

// modeTargets: what does no networking of its own is measured by a plugin that does
// nothing, macvlan by its floor.
func (r report) modeTargets() []target {
	add := map[string]float64{}
	for _, m := range r.Modes {
		add[m.Name] = m.Add.median()
	}
	if len(add) == 0 {
		return nil
	}
	limit := math.Round((1.5*add[noopName]+1)*100) / 100
	var all []target
	for _, name := range []string{"none", "host", "container-share"} {
		all = append(all, target{name + " ADD, ms (1.5 x nothing + 1)", add[name], true, limit})
	}
	bare := add[macvlanFloorName]
	return append(all,
		target{"bridge routed ADD / bridge ADD", add[routedMode] / add[bridgeMode], true, 1.2},
		target{"vxlan-overlay routed ADD / vxlan-overlay ADD", add[routedOverlayMode] / add[overlayMode], true, 1.2},
		target{"vxlan-overlay ADD / bridge ADD", add[overlayMode] / add[bridgeMode], true, 1.2},
		target{"ADD with names - ADD without, ms", add[namesMode] - add[bridgeMode], true, 0.5},
		target{"macvlan ADD / its floor", add["macvlan"] / bare, true, 4},
		target{"macvlan ADD / nothing + its floor", add["macvlan"] / (add[noopName] + bare), true, math.Inf(1)})
}
