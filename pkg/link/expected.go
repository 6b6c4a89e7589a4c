package link

import (
	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"github.com/berth-cni/berth/pkg/link/ipvlan"
	"github.com/berth-cni/berth/pkg/link/macvlan"
)

// Expected is how a container's interface has to be for a Check where others may have
// changed on purpose what ADD gave it.
type Expected = iface.Expected

// Outside is the step without what is the container's own: to look for what is to be put
// back, which is the host's, and the interface as such. Addresses, routes and the like
// that are missing inside somebody has taken out there.
func Outside(s attach.Step) attach.Step {
	switch s := s.(type) {
	case *Veth:
		v := *s
		v.Expect(&Expected{})
		return &v
	case *Routed:
		r := *s
		r.Expect(&Expected{})
		return &r
	case *macvlan.Interface:
		m := *s
		m.Expect(&Expected{})
		return &m
	case *ipvlan.Interface:
		v := *s
		v.Expect(&Expected{})
		return &v
	}
	return s
}
