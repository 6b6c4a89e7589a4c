package overlay

import (
	"fmt"
	"sync"
	"testing"

	"github.com/berth-cni/berth/integration/cluster"
)

// TestInternal has an internal network beside two that are neither internal nor isolated,
// on the same two hosts. Nothing enters or leaves the internal one, on one host or across;
// the other two are as one to each other, and reach the outside.
func TestInternal(t *testing.T) {
	b := newBed(t, 2, options{create: []string{"--subnet", "10.42.0.0/16", "--subnet", "fd00:42::/48", "--internal"}})
	places := map[string][]*place{}
	for _, name := range []string{"green", "yellow"} {
		number := map[string]int{"green": 43, "yellow": 44}[name]
		b.create(name, "--subnet", fmt.Sprintf("10.%d.0.0/16", number), "--subnet", fmt.Sprintf("fd00:%d::/48", number))
		b.settledAll(name)
	}
	outside, err := b.Host("x", 66)
	must(t, err)
	for _, name := range b.networks {
		for _, h := range b.members() {
			places[name] = append(places[name], b.container(h, name+"-"+h.Name, name))
		}
	}
	b.reaches(places["blue"]...)
	b.reaches(append(places["green"], places["yellow"]...)...)
	for _, p := range places["green"] {
		must(t, pings(p, outside.Addr4.String()))
		must(t, pings(p, outside.Addr6.String()))
	}

	var all sync.WaitGroup // each waits for an answer that does not come
	silent := func(from pinger, name, address string) {
		all.Go(func() {
			if pings(from, address) == nil {
				t.Errorf("%s reaches %s", name, address)
			}
		})
	}
	for i, in := range places["blue"] {
		gateway := b.members()[i]
		must(t, outside.Script(fmt.Sprintf("ip route add %s via %s\nip -6 route add %s via %s", in.addrs[0], gateway.Addr4, in.addrs[1], gateway.Addr6)))
		for family, own := range in.addrs {
			silent(outside, "the outside", own.String())
			for _, other := range places["green"] {
				silent(in, in.ID, other.addrs[family].String())
				silent(other, other.ID, own.String())
			}
		}
		for _, h := range []*cluster.Host{outside, b.Hosts[1-i]} {
			silent(in, in.ID, h.Addr4.String())
			silent(in, in.ID, h.Addr6.String())
		}
	}
	all.Wait()
}

type pinger interface {
	Output(name string, args ...string) (string, error)
}

func pings(from pinger, address string) error {
	_, err := from.Output("ping", "-n", "-c2", "-i0.2", "-W1", address)
	return err
}
