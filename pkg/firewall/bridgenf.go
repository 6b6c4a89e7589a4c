package firewall

import (
	"errors"
	"fmt"

	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// FilterBridged has frames between ports of bridges pass the host's firewall, where they do
// not: module br_netfilter and its settings, which are of the network namespace (kernel 5.3).
// Translations for a container of the same bridge are then undone on the way back, whose
// container sees its client's own address, and a NetworkPolicy holds between the two. It
// tells whether it changed something.
func FilterBridged() (changed bool, err error) {
	path := proc.Net("bridge", "bridge-nf-call-iptables")
	value, err := proc.Read(path)
	if err != nil {
		return false, err
	}
	if value == "" {
		if err := loadBridgeNetfilter(); err != nil {
			return false, fmt.Errorf("load br_netfilter: %w: 'modprobe br_netfilter' does, on the host", err)
		}
		if value, err = proc.Read(path); err == nil && value == "" {
			err = errors.New("the kernel has no module br_netfilter")
		}
		if err != nil {
			return false, err
		}
	}
	for _, setting := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"} {
		did, bad := proc.Set(proc.Net("bridge", setting), "1")
		changed, err = changed || did, errors.Join(err, bad)
	}
	return changed, err
}

// loadBridgeNetfilter has the kernel load the module, which takes no more than CAP_NET_ADMIN:
// it does so for the first rule that matches by the port of a bridge
// (net/netfilter/xt_physdev.c). The rule goes in the transaction that makes it.
func loadBridgeNetfilter() error {
	const isIn = 0x08 // XT_PHYSDEV_OP_ISIN of linux/netfilter/xt_physdev.h
	info := make(xt.Unknown, 72)
	info[65] = isIn // xt_physdev_info.bitmask, behind four names of 16 bytes and invert
	t := &nftnl.Table{Family: unix.NFPROTO_IPV4, Name: TableName + "_load", Sets: func() []nftnl.Set { return nil },
		Chains: func() []nftnl.Chain {
			return []nftnl.Chain{{Name: "physdev", Rules: [][]expr.Any{{&expr.Match{Name: "physdev", Rev: 0, Info: &info}}}}}
		}}
	return t.Try()
}
