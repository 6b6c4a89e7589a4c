package iface

import (
	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/proc"
)

// refuseAdvertisements keeps a container's interface, before it is up, from addresses and
// routes of router advertisements (RFC 4861, section 6.3.4; RFC 4862, section 5.5.3), which
// each neighbour can send: also when the container has IPv4 alone. It runs on a thread that
// is in the container's namespace. Where /proc/sys cannot be written the container comes
// without the protection, with a warning.
func refuseAdvertisements(fs proc.FS, a *attach.Adding) {
	for _, setting := range []string{"accept_ra", "autoconf"} {
		if err := fs.Change(proc.Net("ipv6", "conf", a.IfName, setting), "0"); err != nil {
			a.Warn("a neighbour's router advertisements can give container %s IPv6 addresses and routes: %v", a.Container, err)
			return
		}
	}
}
