package doctor

import (
	"fmt"
	"strings"

	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/overlay"
)

// checkHistory tells of a store that has lost what this host goes on with, and of
// networks that go on although they were removed.
func checkHistory(f *facts) ([]Problem, error) {
	found := f.lost()
	for _, l := range f.Locals {
		removal, ok := overlay.Removal{}, false
		if f.State != nil {
			removal, ok = f.State.NetworkRemoved(l.Network.ID)
		}
		text := removal.String()
		if !ok && f.Status != nil {
			for _, n := range f.Status.Networks {
				if n.Name == l.Network.Name && n.Removed != "" {
					text, ok = n.Removed, true
				}
			}
		}
		if !ok {
			continue
		}
		attached := 0
		for _, a := range f.Host.Records {
			if a.Network == l.Network.Name {
				attached++
			}
		}
		found = append(found, problem(fmt.Sprintf("network %s was %s, %d containers are still attached here", l.Network.Name, text, attached),
			"nothing can be added to it on this host", "nothing has to be done: it goes when its last container has left (berth ps --filter network="+l.Network.Name+")", about{network: l.Network.Name}))
	}
	return found, nil
}

// lost tells what the store does not have, though nobody has removed it.
func (f *facts) lost() (found []Problem) {
	const why = "this host goes on as before; one that comes new, or was started anew without its /var/lib/berth, does not know of it"
	if f.Status == nil {
		return f.lostLocals()
	}
	s := &f.Status.Store
	var what []string
	if n := len(s.LostNetworks); n > 0 {
		what = append(what, "networks "+host.Some(s.LostNetworks))
	}
	if n := len(s.LostNodes); n > 0 {
		what = append(what, "nodes "+host.Some(s.LostNodes))
	}
	if s.LostBlocks > 0 {
		what = append(what, fmt.Sprintf("%d blocks of other hosts", s.LostBlocks))
	}
	if len(what) == 0 {
		return nil
	}
	lost := strings.Join(what, ", ")
	if s.Broken != "" {
		return []Problem{problem(fmt.Sprintf("since %s the store is not what it was: %s. It has lost %s, which nobody has removed", host.Age(f.Now.Sub(s.BrokenSince)), s.Broken, lost),
			why, "put etcd's right data back; or have this host give back what it remembers: berth network restore (agents do it by themselves where all say the same)")}
	}
	mend := "berth network restore gives back what this host remembers"
	if len(s.LostNetworks) > 0 {
		mend += "; berth network rm " + s.LostNetworks[0] + " ends a network for all hosts"
	}
	if len(s.LostNodes) > 0 {
		mend += "; berth node rm " + s.LostNodes[0] + " ends a node"
	}
	return []Problem{problem(fmt.Sprintf("the store does not have %s, and nobody has removed that with berth: it was deleted by other means", lost), why, mend)}
}

// lostLocals is what this program sees of it where no agent answers.
func (f *facts) lostLocals() (found []Problem) {
	if f.State == nil {
		return nil
	}
	for _, l := range f.Locals {
		_, removed := f.State.NetworkRemoved(l.Network.ID)
		if n, ok := f.State.Networks[l.Network.Name]; removed || ok && n.ID == l.Network.ID {
			continue
		}
		found = append(found, problem(fmt.Sprintf("the store does not have network %s of this host, and nobody has removed it", l.Network.Name),
			"hosts that come new do not know of it", "berth network restore "+l.Network.Name, about{network: l.Network.Name}))
	}
	return found
}
