package firewall

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/coreos/go-iptables/iptables"
	"golang.org/x/sys/unix"
)

// Forward is the step that has the host's other firewalls let a bridge's traffic
// through: a packet passes only when all of them accept it, so ours cannot allow
// what another one drops. It belongs to the network, not to one container: Add
// ensures it, Del leaves it unless it is Own, [Forward.Remove] undoes it.
//
// It acts on firewalld, and on iptables (either flavour, either family) whose
// FORWARD policy is drop, as Docker and ufw set it. What the containers send is
// allowed, and what answers it or goes to a published port. These rules are
// appended to FORWARD: they stand against the policy only, while what somebody
// drops on purpose, Docker between its own networks or ufw by a rule, stays
// dropped. An accept in DOCKER-USER would come before all that.
//
// Nothing is forked where nothing drops.
type Forward struct {
	// Bridge is the interface that containers are behind; for those of other hosts
	// the VXLAN device, which our own rules let nothing pass through but to them.
	Bridge string `json:"bridge"`
	// Own says that no other container is reached through Bridge (the host's end
	// of a point-to-point pair): Del then removes what Add made.
	Own bool `json:"own,omitempty"`
	// Names has questions for names let in as well ([NamesPort]), where the policy of
	// INPUT is drop.
	Names bool `json:"names,omitempty"`
}

// Kind implements [attach.Step].
func (*Forward) Kind() string { return "forward" }

// Add implements [attach.Step].
func (f *Forward) Add(ctx context.Context, _ *attach.Attachment) error {
	gates, err := closedGates()
	for _, g := range gates {
		err = errors.Join(err, g.open(ctx, f.Bridge))
	}
	if f.Names && err == nil {
		err = f.questions(true, func(t *iptables.IPTables, x text) error { return x.ensure(t) })
	}
	if err != nil {
		return fmt.Errorf("let bridge %s through the host's other firewalls: %w", f.Bridge, err)
	}
	return nil
}

// Del implements [attach.Step]: other containers use the bridge, unless it is Own.
func (f *Forward) Del(ctx context.Context, _ *attach.Attachment) error {
	if !f.Own {
		return nil
	}
	return f.Remove(ctx)
}

// Check implements [attach.Step].
func (f *Forward) Check(ctx context.Context, _ *attach.Attachment) error {
	gates, err := closedGates()
	for _, g := range gates {
		err = errors.Join(err, g.verify(ctx, f.Bridge))
	}
	if f.Names && err == nil {
		err = f.questions(true, func(t *iptables.IPTables, x text) error {
			there, err := x.exists(t)
			if err == nil && !there {
				err = fmt.Errorf("the INPUT policy is drop, and questions for names are not let in by bridge %s: no %s", f.Bridge, x)
			}
			return err
		})
	}
	return err
}

// Remove undoes Add, for a network that goes: also where the policy is another one by now.
func (f *Forward) Remove(ctx context.Context) error {
	gates, err := closedGates()
	for _, g := range gates {
		err = errors.Join(err, g.close(ctx, f.Bridge))
	}
	_, all, bad := filtersWith("FORWARD", false)
	err = errors.Join(err, bad)
	for _, g := range all {
		if !slices.Contains(gates, gate(g)) {
			_ = g.close(ctx, f.Bridge) // a table that iptables cannot read has nothing of ours
		}
	}
	err = errors.Join(err, f.questions(true, func(t *iptables.IPTables, x text) error { return deleteTexts(t, []text{x}) }))
	_ = f.questions(false, func(t *iptables.IPTables, x text) error { return deleteTexts(t, []text{x}) })
	if err != nil {
		return fmt.Errorf("take bridge %s out of the host's other firewalls: %w", f.Bridge, err)
	}
	return nil
}

// questions does something with each rule that lets in the containers' questions for
// names, in the tables whose INPUT policy is drop, or else in all. firewalld's zone lets them in
// already.
func (f *Forward) questions(shut bool, do func(*iptables.IPTables, text) error) error {
	_, filters, err := filtersWith("INPUT", shut)
	for _, table := range filters {
		t, bad := table.tables()
		if bad != nil {
			err = errors.Join(err, bad)
			continue
		}
		for _, proto := range []string{"udp", "tcp"} {
			spec := fmt.Sprintf("-i %s -p %s -m %s --dport %d -m comment --comment", f.Bridge, proto, proto, NamesPort)
			err = errors.Join(err, do(t, text{"filter", "INPUT", append(words(spec), "berth network "+f.Bridge, "-j", "ACCEPT"), false}))
		}
	}
	return err
}

// gate is a firewall that drops what nobody allowed.
type gate interface {
	open(ctx context.Context, bridge string) error
	verify(ctx context.Context, bridge string) error
	close(ctx context.Context, bridge string) error
}

// closedGates are those that drop what is forwarded.
func closedGates() (all []gate, err error) {
	hasFirewalld, filters, err := closed("FORWARD")
	if hasFirewalld {
		all = append(all, firewalld{})
	}
	for _, f := range filters {
		all = append(all, f)
	}
	return all, err
}

// closed looks for the tables of other firewalls by their names, and for the
// policies of their chains of that name.
func closed(chain string) (hasFirewalld bool, filters []filter, err error) {
	return filtersWith(chain, true)
}

// filtersWith looks for the tables that have the chain; shut: those alone whose policy
// is drop.
func filtersWith(chain string, shut bool) (hasFirewalld bool, filters []filter, err error) {
	asked := []struct {
		family uint8
		chain  string // none: the table alone, which is firewalld's
		filter filter
	}{
		{unix.NFPROTO_INET, "", filter{}},
		{unix.NFPROTO_IPV4, chain, filter{}},
		{unix.NFPROTO_IPV6, chain, filter{v6: true}},
	}
	var p packet
	for _, q := range asked {
		if q.chain == "" {
			p.begin(getTable, 0, q.family, 0, 0)
			p.text(unix.NFTA_TABLE_NAME, firewalldTable)
			continue
		}
		p.begin(getChain, 0, q.family, 0, 0)
		p.text(unix.NFTA_CHAIN_TABLE, "filter")
		p.text(unix.NFTA_CHAIN_NAME, q.chain)
	}
	p.ack()
	s, err := dial()
	if err != nil {
		return false, nil, err
	}
	answers, err := s.exchange(&p)
	if err != nil {
		return false, nil, err
	}
	for _, r := range answers {
		i := int(r.seq) - 1
		if r.kind == unix.NLMSG_ERROR || i < 0 || i >= len(asked) {
			continue // ENOENT, or a kernel without nftables
		}
		if asked[i].chain == "" {
			hasFirewalld = true
		} else if !shut || r.drops() {
			filters = append(filters, asked[i].filter)
		}
	}
	legacy, err := closedLegacy(chain, shut)
	return hasFirewalld, append(filters, legacy...), err
}

// drops tells whether the chain's policy is drop.
func (r reply) drops() bool {
	const drop = 0 // NF_DROP
	policy := attrOf(r.attrs, unix.NFTA_CHAIN_POLICY)
	return len(policy) == 4 && binary.BigEndian.Uint32(policy) == drop
}

// closedLegacy looks at iptables in the kernel's older form, where a filter table
// exists only when somebody used it.
func closedLegacy(chain string, shut bool) (closed []filter, err error) {
	for _, f := range []struct {
		names string
		filter
	}{
		{"/proc/thread-self/net/ip_tables_names", filter{legacy: true}},
		{"/proc/thread-self/net/ip6_tables_names", filter{legacy: true, v6: true}},
	} {
		names, _ := os.ReadFile(f.names)
		if !strings.Contains("\n"+string(names), "\nfilter\n") {
			continue
		}
		t, err := f.tables()
		if err != nil {
			return closed, err
		}
		rules, err := t.List("filter", chain)
		if err != nil {
			return closed, err
		}
		if len(rules) > 0 && (!shut || rules[0] == "-P "+chain+" DROP") {
			closed = append(closed, f.filter)
		}
	}
	return closed, nil
}

// filter is the filter table of iptables.
type filter struct{ legacy, v6 bool }

// tables returns the program that speaks to the table: both flavours can be in
// use at once, and the plain name is either.
func (f filter) tables() (*iptables.IPTables, error) {
	plain, proto := "iptables", iptables.ProtocolIPv4
	if f.v6 {
		plain, proto = "ip6tables", iptables.ProtocolIPv6
	}
	name := plain + "-nft"
	if f.legacy {
		name = plain + "-legacy"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath(plain)
	}
	if err != nil {
		return nil, fmt.Errorf("the %s policy is drop: %w (Debian's package is iptables)", plain, err)
	}
	return iptables.New(iptables.Path(path), iptables.IPFamily(proto), iptables.Timeout(lockWait))
}

func (f filter) texts(bridge string) []text {
	mark := []string{"-m", "comment", "--comment", "berth network " + bridge, "-j", "ACCEPT"}
	return []text{
		{"filter", "FORWARD", append([]string{"-i", bridge}, mark...), false},
		{"filter", "FORWARD", append([]string{"-o", bridge, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED,DNAT"}, mark...), false},
	}
}

func (f filter) open(_ context.Context, bridge string) error {
	t, err := f.tables()
	if err != nil {
		return err
	}
	for _, x := range f.texts(bridge) {
		if err := x.ensure(t); err != nil {
			return err
		}
	}
	return nil
}

func (f filter) verify(_ context.Context, bridge string) error {
	t, err := f.tables()
	if err != nil {
		return err
	}
	for _, x := range f.texts(bridge) {
		there, err := x.exists(t)
		if err == nil && !there {
			err = fmt.Errorf("the FORWARD policy is drop, and bridge %s is not let through: no %s", bridge, x)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f filter) close(_ context.Context, bridge string) error {
	t, err := f.tables()
	if err != nil {
		return err
	}
	return deleteTexts(t, f.texts(bridge))
}

// firewalld puts the bridge in the zone that accepts everything. Only at run
// time: firewalld keeps that over its own reload, and what it were to keep
// longer would outlive the network, whose record a reboot ends.
type firewalld struct{}

// firewalldTable is its table, of family inet.
const firewalldTable = "firewalld"

func (f firewalld) run(ctx context.Context, option, bridge string) error {
	_, err := f.output(ctx, "--zone=trusted", option+"="+bridge)
	return err
}

func (firewalld) output(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "firewall-cmd", args...).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("firewalld is running: %w (Debian's package is firewalld)", err)
	}
	if err != nil {
		return "", fmt.Errorf("firewall-cmd %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

func (f firewalld) open(ctx context.Context, bridge string) error {
	return f.run(ctx, "--change-interface", bridge)
}

func (f firewalld) verify(ctx context.Context, bridge string) error {
	return f.run(ctx, "--query-interface", bridge)
}

func (f firewalld) close(ctx context.Context, bridge string) error {
	if f.verify(ctx, bridge) != nil {
		return nil
	}
	return f.run(ctx, "--remove-interface", bridge)
}
