package agent

import (
	"context"
	"errors"
	"time"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// watchUnderlay has the underlay looked at again soon after an address of the host
// changed.
func (a *Agent) watchUnderlay(ctx context.Context) {
	everything := []bpf.Instruction{netlink.Pass}
	l, err := netlink.Listen(unix.NETLINK_ROUTE, 0, everything, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		a.Log.Warn("watch the host's addresses; they are looked at now and then", "error", err)
		return
	}
	defer l.Close()
	for {
		if _, err := l.Receive(ctx); err != nil && !errors.Is(err, unix.ENOBUFS) { // lost: there were some
			return
		}
		sleep(ctx, calm)
		const most = 1000 // of a host whose addresses never rest
		for range most {  // what came meanwhile is the same change
			soon, cancel := context.WithTimeout(ctx, time.Millisecond)
			_, err := l.Receive(soon)
			cancel()
			if err != nil && !errors.Is(err, unix.ENOBUFS) {
				break
			}
		}
		a.do(ctx, a.checkUnderlay)
	}
}
