// Package watch tells of damage to the host's firewall.
package watch

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/firewall/allow"
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Rules tells of damage to the firewall of the calling thread's network namespace:
// the channel has a value after somebody deleted our nftables table, or a chain, a
// rule or a set of it; and after another firewall may have begun to drop what [allow.VXLAN]
// and [allow.Forward] allow: firewalld's table came or went, the policy of iptables' FORWARD
// or INPUT was set, a rule of these was deleted. Values that nobody took yet are one.
// The channel is closed when the context ends (or the socket breaks).
//
// The kernel does not tell of changes to iptables in its form from before nftables.
//
// Elements that come and go, those of every container and of [firewall.SyncTunnels] itself,
// wake nobody: the kernel drops their messages before they reach the socket. So
// somebody who deletes elements is found by the next SyncTunnels only.
func Rules(ctx context.Context) (<-chan struct{}, error) {
	l, err := netlink.Listen(unix.NETLINK_NETFILTER, 0, noElements(), unix.NFNLGRP_NFTABLES)
	if err != nil {
		return nil, fmt.Errorf("watch nftables: %w", err)
	}
	damaged := make(chan struct{}, 1)
	go func() {
		defer close(damaged)
		defer l.Close()
		for {
			all, err := l.Receive(ctx)
			lost := errors.Is(err, unix.ENOBUFS) // more was deleted than the socket holds
			if err != nil && !lost {
				return
			}
			if lost || damage(all) {
				select {
				case damaged <- struct{}{}:
				default:
				}
			}
		}
	}()
	return damaged, nil
}

// watched are the built-in chains that [allow.VXLAN] and [allow.Forward] are about.
var watched = map[string]bool{"INPUT": true, "FORWARD": true}

// damage tells whether one of the messages is about what [Rules] looks for.
func damage(all iter.Seq[netlink.Message]) bool {
	for m := range all {
		if damages(m) {
			return true
		}
	}
	return false
}

func damages(m netlink.Message) bool {
	text := func(attr uint16) string { return netlink.Text(m.Find(nftnl.HeaderLen, attr)) }
	const table = unix.NFTA_TABLE_NAME // the same number in messages of all kinds
	switch name := text(table); m.Kind {
	case nftnl.NewTable:
		return name == allow.FirewalldTable
	case nftnl.NewChain:
		return name == "filter" && watched[text(unix.NFTA_CHAIN_NAME)]
	case nftnl.DelRule:
		return firewall.OwnTable(name) || name == allow.FirewalldTable || name == "filter" && watched[text(unix.NFTA_RULE_CHAIN)]
	case nftnl.DelTable, nftnl.DelChain, nftnl.DelSet:
		return firewall.OwnTable(name) || name == allow.FirewalldTable
	}
	return false
}

// noElements drops what begins with a change of elements or tells of a generation.
// The kernel puts messages of one transaction into one buffer, in their order
// (nft_commit_notify in net/netfilter/nf_tables_api.c): one that changes elements
// first and deletes a table then goes unseen.
func noElements() []bpf.Instruction {
	kind := uint32(4) // nlmsg_type, whose low byte is the command
	if netlink.Host16(1) == 1 {
		kind++ // big endian
	}
	program := []bpf.Instruction{netlink.Load8(kind)}
	for _, command := range []uint32{unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM, unix.NFT_MSG_NEWGEN} {
		program = append(program, netlink.Case(command, netlink.Drop)...)
	}
	return append(program, netlink.Pass)
}
