package overlay

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestReach has containers of three hosts reach each other with their own addresses,
// one by one and all at a time, over underlays of both families.
func TestReach(t *testing.T) {
	for _, underlay6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("underlay6=%v", underlay6), func(t *testing.T) {
			b := newBed(t, 3, options{underlay6: underlay6})
			var all []*place
			for _, h := range b.Hosts {
				for i := range 2 {
					all = append(all, b.container(h, fmt.Sprint(h.Name, i)))
				}
			}
			b.reaches(all...)
			tr := startTraffic(t, all[0], all[1], all[2], all[4])
			time.Sleep(time.Second)
			tr.whole("parallel flows")
			b.settled()
		})
	}
}

// TestFive: five hosts, one container each.
func TestFive(t *testing.T) {
	b := newBed(t, 5, options{})
	var all []*place
	for _, h := range b.Hosts {
		all = append(all, b.container(h, "c-"+h.Name))
	}
	b.reaches(all...)
}

// TestErrors looks at what IP promises beside delivery: a packet that is too large is
// refused with the size that fits, an address that nobody owns at once, a port that
// nobody listens on too.
func TestErrors(t *testing.T) {
	b := newBed(t, 2, options{})
	from, to := b.container(b.Hosts[0], "from"), b.container(b.Hosts[1], "to")
	const headers4, headers6 = 28, 48
	for i, headers := range []int{headers4, headers6} {
		const mtu = 1450
		ping := func(size int) (string, error) {
			return from.Output("ping", "-c1", "-W1", "-Mdo", "-s", strconv.Itoa(size-headers), to.addrs[i].String())
		}
		if out, err := ping(mtu); err != nil {
			t.Error(out, err)
		}
		if out, err := ping(mtu + 1); err == nil || !strings.Contains(out, "mtu") {
			t.Errorf("%d bytes: %s (%v)", mtu+1, out, err)
		}
	}
	for _, nobody := range []string{"10.42.255.254", "fd00:42:0:ffff::2"} {
		if out, err := from.Output("ping", "-c1", "-W1", nobody); err == nil || !strings.Contains(out, "Unreachable") && !strings.Contains(out, "unreachable") {
			t.Errorf("%s, which nobody owns: %s (%v)", nobody, out, err)
		}
	}
	for _, a := range to.addrs {
		if _, err := from.Ask(fmt.Sprintf("[%s]:81", a)); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("a port that nobody listens on at %s: %v", a, err)
		}
	}
}

// TestSmallPeer has one host with a smaller MTU than the other: a route says so, so
// that a transfer need not find out.
func TestSmallPeer(t *testing.T) {
	b := newBed(t, 2, options{})
	must(t, b.Hosts[1].Script("ip link set eth0 mtu 1400"))
	b.eventually(patience, func() error {
		p, err := b.Hosts[1].Peer("blue", false)
		if err == nil && p.MTU != 1350 {
			err = fmt.Errorf("MTU of %d", p.MTU)
		}
		return err
	})
	b.settled()
	from, to := b.container(b.Hosts[0], "from"), b.container(b.Hosts[1], "to")
	b.reaches(from, to)
	tr := startTraffic(t, from, to)
	time.Sleep(300 * time.Millisecond)
	tr.whole("between hosts of two MTUs")
}
