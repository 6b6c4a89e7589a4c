package server

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
)

const (
	linkAge  = time.Second // for which the records are believed
	linkTime = 2 * time.Second
	linkMost = 64 // queries at a time
)

// links finds containers that have no names in the directory, since their network has
// none, for those who have a link to one. It reads the records, at most once a second
// for a network.
type links struct {
	records *attach.Store
	log     *slog.Logger
	busy    chan struct{}

	mu        sync.Mutex
	byNetwork map[string]snapshot
}

// snapshot is a network's records at a time.
type snapshot struct {
	time time.Time
	all  []*attach.Attachment
}

func newLinks(records *attach.Store, log *slog.Logger) *links {
	return &links{records: records, log: log, busy: make(chan struct{}, linkMost), byNetwork: map[string]snapshot{}}
}

// find returns the addresses of a container on one of the networks, by its ID, short
// ID or name.
func (l *links) find(ctx context.Context, networks []string, target string) ([]netip.Addr, error) {
	for _, n := range networks {
		all, err := l.list(ctx, n)
		if err != nil {
			return nil, err
		}
		var addrs []netip.Addr
		for _, a := range all {
			if a.Deleting || a.Role == attach.IPAM || !called(a, target) {
				continue
			}
			for _, addr := range a.Addresses {
				addrs = append(addrs, addr.Prefix.Addr())
			}
		}
		if addrs != nil {
			return addrs, nil
		}
	}
	return nil, nil
}

func called(a *attach.Attachment, target string) bool {
	const short = 12
	return a.Container == target || len(target) >= short && attach.IDStarts(a.Container, target) ||
		strings.EqualFold(a.Args["K8S_POD_NAME"], target)
}

func (l *links) list(ctx context.Context, network string) ([]*attach.Attachment, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.byNetwork[network]; time.Since(s.time) < linkAge {
		return s.all, nil
	}
	ctx, cancel := context.WithTimeout(ctx, linkTime)
	defer cancel()
	all, err := l.records.List(ctx, network)
	if err != nil && all == nil {
		return nil, err
	}
	l.byNetwork[network] = snapshot{time.Now(), all}
	return all, nil
}

// submit answers a query for a link, later. It reports false when there are too many.
func (l *links) submit(ctx context.Context, e elsewhere, p *pending) bool {
	if l.records == nil {
		return false
	}
	select {
	case l.busy <- struct{}{}:
	default:
		return false
	}
	go func() {
		defer func() { <-l.busy }()
		defer survive(l.log, "a link")
		addrs, err := l.find(ctx, e.networks, e.target)
		a := p.q.start(p.msg, p.limit)
		switch {
		case err != nil:
			a.flags, a.rcode = 0, rcodeServFail
		case addrs == nil:
			a.rcode = rcodeNXDomain
		case p.q.qtype == typeANY:
			a.minimal()
		default:
			a.addresses(family(nil, addrs, p.q.qtype))
		}
		p.reply(a.finish())
	}()
	return true
}
