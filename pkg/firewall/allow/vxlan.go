package allow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"github.com/berth-cni/berth/pkg/internal/xtables"
)

// admitMark is the comment of the rules that let VXLAN packets in.
const admitMark = "berth-vxlan"

// VXLAN has the host's other firewalls accept UDP packets to these ports, and to no
// others that an earlier call asked for: those of all tunnels of the host, none when
// the last has gone. As [Forward] does, it acts on firewalld and on iptables whose
// policy (of INPUT here) is drop, with a rule behind all others, so that what
// somebody drops on purpose stays dropped; and it forks nothing where nothing drops.
// Which of the packets are taken is up to [firewall.SyncTunnels].
//
// firewalld's ports have no owner: one that is not wanted any more stays open until
// firewalld starts again. There is nothing behind it.
func VXLAN(ctx context.Context, ports []int) error {
	s, err := nftnl.Dial()
	if err != nil {
		return err
	}
	hasFirewalld, chains, err := otherFirewalls(s, "INPUT")
	if hasFirewalld {
		err = errors.Join(err, firewalld{}.admit(ctx, ports))
	}
	for _, c := range chains {
		if c.Drops {
			err = errors.Join(err, admitIn(c.Form, ports))
		}
	}
	if err != nil {
		return fmt.Errorf("let VXLAN packets (UDP ports %v) through the host's other firewalls: %w", ports, err)
	}
	return nil
}

func admitIn(f xtables.Form, ports []int) error {
	t, err := f.Open()
	if err != nil {
		return err
	}
	lines, err := t.List("filter", "INPUT")
	if err != nil {
		return err
	}
	var there, wanted []xtables.Rule
	for _, line := range lines {
		if strings.Contains(line, admitMark) {
			spec := strings.Fields(strings.ReplaceAll(line, `"`, ""))[2:] // after -A INPUT
			there = append(there, xtables.Rule{Table: "filter", Chain: "INPUT", Spec: spec})
		}
	}
	for _, port := range ports {
		spec := strings.Fields("-p udp -m udp --dport " + strconv.Itoa(port) + " -m comment --comment " + admitMark + " -j ACCEPT")
		wanted = append(wanted, xtables.Rule{Table: "filter", Chain: "INPUT", Spec: spec})
	}
	for _, x := range xtables.Lacking(wanted, there) {
		if err := x.Ensure(t); err != nil {
			return err
		}
	}
	return xtables.DeleteRules(t, xtables.Lacking(there, wanted))
}

// admit opens the ports in the default zone and in all that have interfaces: which
// of them the packets come in by is the routing's choice, and may change.
func (f firewalld) admit(ctx context.Context, ports []int) error {
	if len(ports) == 0 {
		return nil
	}
	zone, err := f.output(ctx, "--get-default-zone")
	if err != nil {
		return err
	}
	active, err := f.output(ctx, "--get-active-zones")
	if err != nil {
		return err
	}
	zones := []string{strings.TrimSpace(zone)}
	for line := range strings.Lines(active) {
		if name := strings.Fields(line); len(name) > 0 && line[0] != ' ' { // then, indented, what is in it
			zones = append(zones, name[0])
		}
	}
	slices.Sort(zones)
	for _, zone := range slices.Compact(zones) {
		args := []string{"--zone=" + zone}
		for _, port := range ports {
			args = append(args, fmt.Sprintf("--add-port=%d/udp", port))
		}
		if _, err := f.output(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}
