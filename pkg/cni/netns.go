package cni

import (
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/netns"
)

// openNetns opens CNI_NETNS. While another plugin replaces the mount of its path, on a
// kernel before 6.5, the path is an empty file for a moment.
func (r *Request) openNetns() (*netns.Namespace, error) {
	ns, err := netns.Open(r.Netns)
	for i := 0; errors.Is(err, netns.ErrNotNetns) && i < 20; i++ {
		time.Sleep(time.Millisecond)
		ns, err = netns.Open(r.Netns)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, badEnvironment("CNI_NETNS: %q: there is no such namespace", r.Netns)
	}
	return ns, err
}

// netnsCookie opens CNI_NETNS, makes sure that it may be worked in, and returns its
// cookie: it is not the host's, which is the one that the plugin runs in. Who only
// gives addresses does not look at it.
func (r *Request) netnsCookie() (uint64, error) {
	if r.mode.Leases {
		return 0, nil
	}
	ns, err := r.openNetns()
	if err != nil {
		return 0, err
	}
	defer ns.Close()
	own, err := ns.IsOwn()
	if err != nil {
		return 0, err
	}
	cookie, err := ns.Cookie()
	if err != nil || !own {
		return cookie, err
	}
	if r.mode.Unrecorded {
		if ours, err := r.onHost(cookie); err != nil || ours {
			return cookie, err
		}
	}
	return 0, badEnvironment("CNI_NETNS: %q is the host's own namespace, want a container's", r.Netns)
}

// onHost reports whether a mode of ours has put the container into the host's
// namespace.
func (r *Request) onHost(host uint64) (bool, error) {
	all, err := r.Records()
	return slices.ContainsFunc(all, func(a *attach.Attachment) bool {
		return a.Container == r.ContainerID && a.Cookie == host && a.Role == attach.Main
	}), err
}

// sameNetns tells whether CNI_NETNS is the namespace that was attached, which may be
// the host's where a container has joined it.
func (r *Request) sameNetns(a *attach.Attachment) error {
	ns, err := r.openNetns()
	if err != nil {
		return err
	}
	defer ns.Close()
	own, err := ns.IsOwn()
	if err != nil {
		return err
	}
	if own && netns.RebindOf(a) == nil {
		return badEnvironment("CNI_NETNS: %q is the host's own namespace, want a container's", r.Netns)
	}
	cookie, err := ns.Cookie()
	if err != nil {
		return err
	}
	if a.Cookie != 0 && cookie != a.Cookie {
		return missing("CNI_NETNS %q is not the namespace that was attached", r.Netns)
	}
	return nil
}

// RefusePath refuses a CNI_NETNS that cannot be made to refer to another namespace,
// or whose namespace somebody has put an interface in.
func (r *Request) RefusePath() error {
	err := netns.Rebindable(r.Netns)
	if errors.Is(err, netns.ErrNotRebindable) {
		return badEnvironment("CNI_NETNS: %w", err)
	}
	if err != nil {
		r.Refuse("CNI_NETNS", r.Netns, "%v", err)
	}
	return nil
}
