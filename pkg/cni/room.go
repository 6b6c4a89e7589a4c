package cni

import (
	"context"
	"errors"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/ipam"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/netns"
)

// makeRoom removes what an ADD was refused for, if that is of something that is gone: a
// container whose namespace ended without a DEL holds its address and its ports, a
// network whose interface somebody deleted its subnets. It reports whether to try again.
func makeRoom(ctx context.Context, s *attach.Store, a *attach.Adding, refusal error) bool {
	var overlap *attach.OverlapError
	var held *attach.HeldError
	var exhausted *ipam.ExhaustedError
	switch {
	case errors.As(refusal, &overlap):
		return outdated(refusal) &&
			s.Update(ctx, func(tx *attach.Tx) error { return tx.ForgetNetwork(overlap.Other.Name) }) == nil
	case errors.As(refusal, &held):
		holder, err := s.Get(ctx, held.Holder)
		return err == nil && deleteGone(ctx, s, holder)
	case errors.As(refusal, &exhausted):
		all, err := s.List(ctx, a.Network)
		if err != nil {
			return false
		}
		deleted := false
		for _, other := range all {
			if len(other.Leases) > 0 && deleteGone(ctx, s, other) {
				deleted = true
			}
		}
		return deleted
	}
	return false
}

// deleteGone deletes an attachment whose namespace is gone.
func deleteGone(ctx context.Context, s *attach.Store, a *attach.Attachment) bool {
	there := func(ifName string) bool {
		is, err := link.Exists(ifName)
		return is || err != nil
	}
	if state, _ := link.StateOf(a, there, time.Now()); state != link.Gone || !visible(a) {
		return false
	}
	err := s.Del(ctx, a.Key)
	return err == nil || errors.Is(err, attach.ErrNotFound)
}

// visible tells whether the path of the attachment's namespace is one that this process
// would see if it were there. The host's end of a veth pair tells without: it goes with
// the namespace. Of others, a runtime that keeps its namespaces in a mount namespace of
// its own would seem to have lost them all.
func visible(a *attach.Attachment) bool {
	return link.HasVeth(a) || a.MountNS != 0 && a.MountNS == netns.MountNamespace()
}
