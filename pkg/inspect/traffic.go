package inspect

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/host"
)

// Traffic is what an attachment, or all of a network, carries: each second, as the container
// has it.
type Traffic struct {
	Name      string `json:"name,omitempty"` // of the container; empty for a network
	Container string `json:"container,omitempty"`
	Network   string `json:"network"`
	Interface string `json:"interface,omitempty"`

	ReceivedBytes   float64 `json:"receivedBytes"`
	ReceivedPackets float64 `json:"receivedPackets"`
	SentBytes       float64 `json:"sentBytes"`
	SentPackets     float64 `json:"sentPackets"`
	Dropped         float64 `json:"dropped"` // of both directions, at the host's end
	Connections     int     `json:"connections"`
}

// Behind is the traffic of what is behind an interface of the host, a pair's other end, in the
// time since then: what the one receives, the other has sent.
func (now Counters) Behind(then Counters, past time.Duration) Traffic {
	seconds := max(past, time.Millisecond).Seconds()
	rate := func(now, then uint64) float64 {
		if now < then { // another interface of the name
			return 0
		}
		return float64(now-then) / seconds
	}
	return Traffic{
		ReceivedBytes: rate(now.SentBytes, then.SentBytes), ReceivedPackets: rate(now.SentPackets, then.SentPackets),
		SentBytes: rate(now.ReceivedBytes, then.ReceivedBytes), SentPackets: rate(now.ReceivedPackets, then.ReceivedPackets),
		Dropped: rate(now.SentDropped+now.ReceivedDropped, then.SentDropped+then.ReceivedDropped),
	}
}

// Add adds what another one carries.
func (t *Traffic) Add(o Traffic) {
	t.ReceivedBytes += o.ReceivedBytes
	t.ReceivedPackets += o.ReceivedPackets
	t.SentBytes += o.SentBytes
	t.SentPackets += o.SentPackets
	t.Dropped += o.Dropped
	t.Connections += o.Connections
}

// TrafficSince is the traffic between two looks at a host: of its attachments, the busiest
// first, and of its networks, by name. Connections are those that are tracked, by address.
// Attachments without an end on the host, such as macvlan's and ipvlan's, are not counted there.
func (h *Host) TrafficSince(before *Host, connections map[netip.Addr]int) (attachments, networks []Traffic) {
	past := h.now.Sub(before.now)
	by := map[string]*Traffic{}
	for _, a := range h.Records {
		v := Attachments([]*attach.Attachment{a}, func(*Attachment) bool { return true }, nil, h.now)[0]
		now, ok := h.counters[v.HostInterface]
		if !ok {
			continue
		}
		then := before.counters[v.HostInterface]
		t := now.Behind(then, past)
		t.Name, t.Container, t.Network, t.Interface = v.Name, a.Container, a.Network, a.IfName
		for _, addr := range v.Addresses {
			t.Connections += connections[addr]
		}
		if by[a.Network] == nil {
			by[a.Network] = &Traffic{Network: a.Network}
		}
		by[a.Network].Add(t)
		attachments = append(attachments, t)
	}
	for _, t := range by {
		networks = append(networks, *t)
	}
	slices.SortFunc(networks, func(x, y Traffic) int { return host.Natural(x.Network, y.Network) })
	slices.SortStableFunc(attachments, func(x, y Traffic) int {
		return cmp.Or(cmp.Compare(y.ReceivedBytes+y.SentBytes, x.ReceivedBytes+x.SentBytes), host.Natural(x.Name, y.Name), cmp.Compare(x.Interface, y.Interface))
	})
	return attachments, networks
}
