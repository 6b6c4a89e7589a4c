package kubernetes

import (
	"fmt"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
)

// otherError: another instance holds the node's lease.
type otherError struct {
	lease lease
	node  nodeObject
}

func (e *otherError) Error() string {
	return fmt.Sprintf("instance %q is alive since %s", clip(e.lease.Spec.Holder), e.lease.Spec.Acquired.Format(time.RFC3339))
}

// conflict is about a life that is another host's.
func (e *otherError) conflict() error {
	return &overlay.ConflictError{Node: e.node.Metadata.Name, Address: e.node.Spec.Address, Since: e.lease.Spec.Acquired.UTC(), Cloned: true}
}

// otherLife is a life of the node that another instance leads: this host's own before it
// booted, whose lease runs out, or that of a host with a copy of this one's disk.
type otherLife struct {
	seen  *otherError // nil: none
	first time.Time   // by our clock, when its lease was first as it is
}

// still tells whether the lease is what it was at the last look, and for how long.
func (o *otherLife) still(l *lease) time.Duration {
	if o.seen == nil || o.seen.lease.Metadata.UID != l.Metadata.UID || o.seen.lease.Metadata.Version != l.Metadata.Version {
		o.first = time.Now()
	}
	return time.Since(o.first)
}

// left tells whether it was ended before its time. Only a host that lives does that, as its
// agent stops, so the name is not ours for that.
func (o *otherLife) left(now time.Time) bool { return o.seen != nil && now.Before(o.seen.lease.ends()) }
