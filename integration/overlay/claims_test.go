package overlay

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"golang.org/x/sys/unix"
)

// TestClaims has a container claim the addresses of a neighbour, and those of thousands
// more, by ARP from as many MACs, under a flow from the neighbour to another host and
// back: nothing is lost, and neither the bridge nor the host learns anything.
func TestClaims(t *testing.T) {
	const forged = 20000
	b := newBed(t, 2, options{})
	h := b.Hosts[0]
	bad, neighbour, far := b.container(h, "bad"), b.container(h, "neighbour"), b.container(b.Hosts[1], "far")
	b.reaches(bad, neighbour, far)
	n := b.definition(h, "blue")
	bridge := n.Bridge()
	learned := func() (fdb, arp int) {
		out, err := h.Output("bridge", "fdb", "show", "br", bridge)
		must(t, err)
		fdb = strings.Count(out, "\n")
		out, err = h.Output("ip", "neigh", "show", "dev", bridge)
		must(t, err)
		return fdb, strings.Count(out, "\n")
	}
	fdb, arp := learned()
	var flows []*cluster.Flow
	for _, p := range [][2]*place{{neighbour, far}, {far, neighbour}, {bad, far}} {
		f, err := cluster.StartFlow(p[0], p[1], p[1].addrs[0], time.Millisecond)
		must(t, err)
		flows = append(flows, f)
	}
	must(t, claim(bad, neighbour.addrs[0], forged))
	time.Sleep(200 * time.Millisecond)
	for i, f := range flows {
		if r := f.Stop(); r.Lost() > 0 || r.Received == 0 {
			t.Errorf("flow %d: %v", i, r)
		} else {
			t.Logf("flow %d: %v", i, r)
		}
	}
	if fdb2, arp2 := learned(); fdb2 > fdb || arp2 > arp {
		t.Errorf("the bridge had %d FDB entries and %d neighbours, and has %d and %d", fdb, arp, fdb2, arp2)
	}
	if got := dropped(t, h); got["spoofed_mac"] < forged/2 || got["spoofed_arp"] < forged/2 {
		t.Errorf("of %d claims, %v were dropped", forged, got)
	}
	b.reaches(bad, neighbour, far)
}

// claim broadcasts ARP replies (RFC 826): that an address is at many MACs, and many
// addresses at the container's own.
func claim(from *place, address netip.Addr, frames int) error {
	return from.Do(func() error {
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for n := range frames {
			mac, claimed := []byte{2, 0xbad >> 8, 0xbad & 0xff, byte(n >> 16), byte(n >> 8), byte(n)}, address.As4()
			if n%2 == 1 {
				mac = i.HardwareAddr
				claimed[3] = byte(n)
			}
			frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac...)
			frame = append(frame, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2)
			frame = append(append(append(frame, mac...), claimed[:]...), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
			frame = append(frame, claimed[:]...)
			if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: i.Index}); err != nil {
				return err
			}
		}
		return nil
	})
}
