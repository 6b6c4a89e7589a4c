package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/ipam"
)

// ipamResult is what one address costs in a /16, in milliseconds: the transaction
// with the opening of the file, as an ADD pays it.
type ipamResult struct {
	Leases int   `json:"leases"`
	Empty  times `json:"empty"`
	Full   times `json:"full"` // with that many leases
	Hole   times `json:"hole"` // and the only free address far behind the last one
}

// ipamAlone leases addresses of one /16 through the library, in a store of its own.
func ipamAlone(leases, rounds int) (*ipamResult, error) {
	progress("addresses alone: %d leases", leases)
	dir, err := os.MkdirTemp("/dev/shm", "berth-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	config, err := ipam.Parse(json.RawMessage(`{"subnet": "10.240.0.0/16"}`))
	if err != nil {
		return nil, err
	}
	p := &pool{store: attach.New(dir, func(string) attach.Step { return nil }), config: config}
	r := &ipamResult{Leases: leases}
	if err := p.sample(&r.Empty, rounds, false); err != nil {
		return nil, err
	}
	if err := p.fill(leases); err != nil {
		return nil, err
	}
	if err := p.sample(&r.Full, rounds, false); err != nil {
		return nil, err
	}
	return r, p.sample(&r.Hole, rounds, true)
}

// pool is a network's addresses and the attachments that lease them.
type pool struct {
	store  *attach.Store
	config *ipam.Config
	leased int
}

func (p *pool) next() attach.Key {
	p.leased++
	return attach.Key{Network: "bench", Container: fmt.Sprintf("c%d", p.leased), IfName: "eth0"}
}

// fill leases addresses, in one transaction, until so many are.
func (p *pool) fill(leases int) error {
	return p.store.Update(context.Background(), func(tx *attach.Tx) error {
		for p.leased < leases {
			if _, err := p.config.Allocate(tx, p.next(), "", nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// sample takes the time of single attachments that have an address and nothing
// else. With rewind the search starts at the pool's beginning each time, and all
// that is leased lies in its way.
func (p *pool) sample(t *times, rounds int, rewind bool) error {
	ctx := context.Background()
	for range rounds {
		if rewind {
			err := p.store.Update(ctx, func(tx *attach.Tx) error {
				return tx.SetCursor("bench", "0", netip.MustParseAddr("10.240.0.2"))
			})
			if err != nil {
				return err
			}
		}
		a := &attach.Attachment{Key: p.next(), Steps: []attach.Step{&ipam.Lease{Conf: p.config}}}
		start := time.Now()
		if err := p.store.Add(ctx, &attach.Adding{Attachment: a}); err != nil {
			return err
		}
		t.took(time.Since(start))
	}
	return nil
}
