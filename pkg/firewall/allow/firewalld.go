package allow

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"github.com/berth-cni/berth/pkg/internal/xtables"
	"golang.org/x/sys/unix"
)

// firewalld puts the bridge in the zone that accepts everything. Only at run
// time: what it were to keep longer would outlive the network, whose record a
// reboot ends. Its own reload forgets that, too (FlushAllOnReload, its default).
type firewalld struct{}

// FirewalldTable is its table, of family inet.
const FirewalldTable = "firewalld"

// trusts reports whether a rule of firewalld's table sends what comes in by the bridge
// to the zone trusted. It reads the rules from the kernel; firewall-cmd takes a third
// of a second to start.
func (firewalld) trusts(s *nftnl.Socket, bridge string) (bool, error) {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, bridge)
	rules := nftnl.Question(nftnl.GetRule, unix.NFPROTO_INET).Text(unix.NFTA_RULE_TABLE, FirewalldTable)
	found, err := nftnl.List(s, rules, func(m netlink.Message) (struct{}, bool) {
		return struct{}{}, bytes.Contains(m.Body, name) && bytes.Contains(m.Body, []byte("_trusted\x00"))
	})
	return len(found) > 0, err
}

// program is the path of the one that speaks to firewalld.
func (firewalld) program() (string, error) {
	path, err := exec.LookPath("firewall-cmd")
	if err != nil {
		return "", fmt.Errorf("firewalld is running: %w (Debian's package is firewalld)", err)
	}
	return path, nil
}

func (f firewalld) run(ctx context.Context, option, bridge string) error {
	_, err := f.output(ctx, "--zone=trusted", option+"="+bridge)
	return err
}

func (f firewalld) output(ctx context.Context, args ...string) (string, error) {
	path, err := f.program()
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
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

// otherFirewalls asks the kernel, and starts no program: whether firewalld runs, by
// its table, and which of these built-in chains iptables has.
func otherFirewalls(s *nftnl.Socket, names ...string) (hasFirewalld bool, all []xtables.Chain, err error) {
	table := nftnl.Question(nftnl.GetTable, unix.NFPROTO_INET).Text(unix.NFTA_TABLE_NAME, FirewalldTable)
	if err := s.Ask([]*netlink.Request{table}, func(int, netlink.Message) { hasFirewalld = true }); err != nil {
		return false, nil, err
	}
	all, err = xtables.Chains(s, names...)
	return hasFirewalld, all, err
}
