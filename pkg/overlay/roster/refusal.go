package roster

import (
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
)

// refusal is why a node may not give a name. It is told when it lasts: a name can be
// known some milliseconds before the block that it is of.
type refusal struct {
	err   error
	since time.Time
	told  bool
}

// mostTold bounds how many refusals are told at a time.
const mostTold = 10

// refuse notes why a name is refused; nil when it is not.
func (r *Roster) refuse(k overlay.NameKey, err error) {
	old := r.refused[k]
	switch {
	case err == nil:
		delete(r.refused, k)
	case old == nil || old.err.Error() != err.Error():
		r.refused[k] = &refusal{err: err, since: time.Now()}
	}
}

func (r *Roster) tellRefused(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	more := 0
	for k, refusal := range r.refused {
		if refusal.told || now.Sub(refusal.since) < look {
			continue
		}
		refusal.told = true
		if more++; more <= mostTold {
			r.Log.Warn("a name of another host is refused", "key", k, "error", refusal.err)
		}
	}
	if more > mostTold {
		r.Log.Warn("names of other hosts are refused", "more", more-mostTold)
	}
}
