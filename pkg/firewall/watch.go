package firewall

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Watch tells of damage to the firewall of the calling thread's network namespace:
// the channel has a value after somebody deleted our nftables table, or a chain, a
// rule or a set of it; and after another firewall may have begun to drop what [Admit]
// and [Forward] allow: firewalld's table came or went, the policy of iptables' FORWARD
// or INPUT was set, a rule of these was deleted. Values that nobody took yet are one.
// The channel is closed when the context ends (or the socket breaks).
//
// The kernel does not tell of changes to iptables in its form from before nftables.
//
// Elements that come and go, those of every container and of [SyncTunnels] itself,
// wake nobody: the kernel drops their messages before they reach the socket. So
// somebody who deletes elements is found by the next SyncTunnels only.
func Watch(ctx context.Context) (<-chan struct{}, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open netfilter socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "netfilter")
	program := noElements()
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &filter); err != nil {
		return nil, errors.Join(fmt.Errorf("filter messages of nftables: %w", err), f.Close())
	}
	all := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)}
	if err := unix.Bind(fd, all); err != nil {
		return nil, errors.Join(fmt.Errorf("watch nftables: %w", err), f.Close())
	}
	damaged := make(chan struct{}, 1)
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	go func() {
		defer close(damaged)
		defer stop()
		buf := make([]byte, part)
		for ctx.Err() == nil {
			n, err := f.Read(buf)
			lost := errors.Is(err, unix.ENOBUFS) // more was deleted than the socket holds
			if err != nil && !lost {
				return
			}
			if lost || damage(buf[:n]) {
				select {
				case damaged <- struct{}{}:
				default:
				}
			}
		}
	}()
	return damaged, nil
}

// damage tells whether one of the messages is about what [Watch] looks for.
func damage(data []byte) bool {
	all, err := replies(data)
	return err != nil || slices.ContainsFunc(all, reply.damages)
}

func (r reply) damages() bool {
	text := func(attr uint16) string { return string(bytes.TrimSuffix(attrOf(r.attrs, attr), []byte{0})) }
	const table = unix.NFTA_TABLE_NAME // the same number in messages of all kinds
	switch name := text(table); r.kind {
	case newTable:
		return name == firewalldTable
	case newChain:
		return name == "filter" && hooks[text(unix.NFTA_CHAIN_NAME)] != 0
	case delRule:
		return name == TableName || name == firewalldTable || name == "filter" && hooks[text(unix.NFTA_RULE_CHAIN)] != 0
	case delTable, delChain, delSet:
		return name == TableName || name == firewalldTable
	}
	return false
}

// noElements drops what begins with a change of elements or tells of a generation.
// The kernel puts messages of one transaction into one buffer, in their order
// (nft_commit_notify in net/netfilter/nf_tables_api.c): one that changes elements
// first and deletes a table then goes unseen.
func noElements() []unix.SockFilter {
	at := uint32(4) // nlmsg_type, whose low byte is the command
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		at++
	}
	const load, equal, end = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	return []unix.SockFilter{
		{Code: load, K: at},
		{Code: equal, Jt: 3, K: unix.NFT_MSG_NEWSETELEM},
		{Code: equal, Jt: 2, K: unix.NFT_MSG_DELSETELEM},
		{Code: equal, Jt: 1, K: unix.NFT_MSG_NEWGEN},
		{Code: end, K: part}, // all of it
		{Code: end},
	}
}
