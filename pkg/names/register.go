package names

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/mountns"
)

// Register is the step that gives the attachment its names: it tells the agent, and
// starts one where none runs. The record is what an agent that starts later knows
// the names from.
type Register struct {
	Bridge    string            `json:"bridge"` // by which the container's queries come in
	Names     []string          `json:"names,omitempty"`
	Subnets   []netip.Prefix    `json:"subnets,omitempty"` // of the network, beside those of the addresses
	Internal  bool              `json:"internal,omitempty"`
	Links     map[string]string `json:"links,omitempty"`
	Upstreams []netip.Addr      `json:"upstreams,omitempty"`
	Foreign   bool              `json:"foreign,omitempty"` // somebody else made the bridge, as Add has found it
}

// Kind implements [attach.Step].
func (r *Register) Kind() string { return "names" }

// Entry is what the agent is told of the attachment.
func (r *Register) Entry(a *attach.Attachment) Entry {
	e := Entry{Key: a.Key, Bridge: r.Bridge, Names: r.Names, Subnets: r.Subnets,
		Internal: r.Internal, Links: r.Links, Upstreams: r.Upstreams, Foreign: r.Foreign}
	for _, addr := range a.Addresses {
		e.Addresses = append(e.Addresses, addr.Prefix.Addr())
		if addr.Gateway.IsValid() {
			e.Gateways = append(e.Gateways, addr.Gateway)
		}
		e.Subnets = append(e.Subnets[:len(e.Subnets):len(e.Subnets)], addr.Prefix.Masked())
	}
	return e
}

// Add returns when the names resolve.
func (r *Register) Add(ctx context.Context, a *attach.Adding) error {
	if i, ok := a.Interface(r.Bridge); ok && i.Foreign && !r.Foreign {
		r.Foreign = true
		a.Changed()
	}
	dir := attach.New("", nil).Dir()
	request := Request{Do: DoAdd, Entry: r.Entry(a.Attachment)}
	_, err := Call(ctx, dir, request)
	if errors.Is(err, ErrNoAgent) {
		// It would end with the daemon whose mount namespace this is, and see its files.
		if why := mountns.Elsewhere(a.Netns, os.Getppid()); why != "" && !canHandOver() {
			a.Warn("no agent runs, and none is started from here: names of %s do not resolve before one does (run 'berth agent' on the host): %s: %s", a.Key, a.Netns, why)
			return nil
		}
		if err = Start(ctx, dir); err == nil {
			_, err = Call(ctx, dir, request)
		}
	}
	if err != nil {
		return fmt.Errorf("register names of %s: %w", a.Key, err)
	}
	return nil
}

// Del returns when the names do not resolve any more. Without an agent, or with one
// that stands still, they do not: that one forgets them before it answers for anybody
// who is added later, and one that is started in its place does not know them.
func (r *Register) Del(ctx context.Context, a *attach.Attachment) error {
	_, err := Call(ctx, attach.New("", nil).Dir(), Request{Do: DoDel, Entry: Entry{Key: a.Key}})
	if err != nil && !errors.Is(err, ErrNoAgent) && !errors.Is(err, ErrSilent) {
		return fmt.Errorf("remove names of %s: %w", a.Key, err)
	}
	return nil
}

// Status implements [attach.Statuser]: whether an agent answers, or could be started.
func (r *Register) Status(ctx context.Context, _ *attach.Store, _ string) error {
	return Available(ctx)
}

// Check asks the agent whether it has the names as the record says, and listens for
// the container's queries.
func (r *Register) Check(ctx context.Context, a *attach.Attachment) error {
	if _, err := Call(ctx, attach.New("", nil).Dir(), Request{Do: DoCheck, Entry: r.Entry(a)}); err != nil {
		return fmt.Errorf("names of %s: %w", a.Key, err)
	}
	return nil
}
