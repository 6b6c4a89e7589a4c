package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
)

const (
	network  = "blue"
	subnet4  = "10.64.0.0/10" // 16,384 blocks
	subnet6  = "fd00:64::/48" // 65,536 blocks
	keys     = "/berth/v1/"   // the agent's --etcd-prefix
	maxPeers = 15000

	// farAway is where the synthetic peers' VTEPs are (RFC 2544): behind a router that
	// forwards nothing.
	farAway = "198.18.0.0/15"
)

// synthetic is a peer that is in the store only.
type synthetic struct {
	name   string
	vtep   netip.Addr
	blocks []netip.Prefix
}

// synthetics are so many peers from a number on, none of which has a block of those
// taken.
func synthetics(first, count int, dual bool, taken []netip.Prefix) []*synthetic {
	skip := map[netip.Prefix]bool{}
	for _, t := range taken {
		skip[t] = true
	}
	var all []*synthetic
	for i := first; len(all) < count; i++ {
		p := &synthetic{name: fmt.Sprintf("peer-%05d", i), vtep: netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}),
			blocks: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64 + byte(i>>8), byte(i), 0}), 24)}}
		if dual {
			p.blocks = append(p.blocks, netip.MustParsePrefix(fmt.Sprintf("fd00:64:0:%x::/64", i+1)))
		}
		if !skip[p.blocks[0]] && !skip[p.blocks[len(p.blocks)-1]] {
			all = append(all, p)
		}
	}
	return all
}

// token is as long as a real one.
func (p *synthetic) token() string { return p.name + strings.Repeat("T", 26-len(p.name)) }

func (p *synthetic) nodeKey() string { return keys + "nodes/" + p.name }

func (p *synthetic) blockKey(b netip.Prefix) string {
	return keys + "blocks/" + network + "/" + strings.Replace(b.String(), "/", "-", 1)
}

// node is the peer's key and value.
func (p *synthetic) node() map[string]string {
	now := time.Now().UTC().Truncate(time.Second)
	return map[string]string{p.nodeKey(): text(overlay.Node{
		Name: p.name, Token: p.token(), Address: p.vtep, MTU: 1500, Since: now, Seen: now})}
}

// all are the keys of the peer and its blocks.
func (p *synthetic) all() map[string]string {
	all := p.node()
	for _, b := range p.blocks {
		all[p.blockKey(b)] = text(overlay.Block{Network: network, Prefix: b, Node: p.name, Token: p.token(), Used: true})
	}
	return all
}

func text(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings, numbers and addresses
	}
	return string(data)
}
