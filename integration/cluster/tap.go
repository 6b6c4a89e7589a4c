package cluster

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Marker is in every datagram of a [Flow].
const Marker = "the payload of a flow, which others are not to read"

// Tap sees every frame on the underlay's wire, by a packet socket.
type Tap struct {
	fd    int
	stop  func()
	ended sync.WaitGroup

	mu     sync.Mutex
	report TapReport
	keep   func(frame []byte) bool
}

// TapReport is what a tap has seen.
type TapReport struct {
	Frames int
	// Marked are frames that hold [Marker] as it is.
	Marked int
	// Inner are frames from or to addresses that the tap was told of.
	Inner int
	// First is the first of Marked and Inner.
	First []byte
	// Kept are the frames that the tap was told to keep, a thousand at most.
	Kept [][]byte
}

func (r TapReport) String() string {
	return fmt.Sprintf("%d of %d frames with the payload, %d with inner addresses: % x", r.Marked, r.Frames, r.Inner, r.First[:min(80, len(r.First))])
}

// Tap listens to the wire for what shall not be on it: the payload of flows, and packets
// from or to addresses of these prefixes, until [Tap.Stop]. It keeps the frames for which
// keep, if any, returns true.
func (c *Cluster) Tap(keep func(frame []byte) bool, inner ...netip.Prefix) (*Tap, error) {
	t := &Tap{keep: keep}
	err := c.wire.Do(func() (err error) {
		const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
		if t.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all); err != nil {
			return err
		}
		const buffer = 32 << 20
		return unix.SetsockoptInt(t.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer)
	})
	if err == nil {
		err = unix.SetsockoptTimeval(t.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000})
	}
	if err != nil {
		return nil, fmt.Errorf("listen to the wire: %w", err)
	}
	stop := make(chan struct{})
	t.ended.Go(func() { t.listen(stop, inner) })
	t.stop = func() { close(stop) }
	return t, nil
}

func (t *Tap) listen(stop <-chan struct{}, inner []netip.Prefix) {
	buf := make([]byte, 1<<16)
	var end time.Time // of what was on its way when it was stopped
	for {
		n, _, err := unix.Recvfrom(t.fd, buf, 0)
		if err == nil {
			t.see(buf[:n], inner)
		}
		select {
		case <-stop:
			if end.IsZero() {
				end = time.Now().Add(onTheirWay)
			}
			if err != nil || time.Now().After(end) {
				return
			}
		default:
		}
	}
}

func (t *Tap) see(frame []byte, inner []netip.Prefix) {
	marked := bytes.Contains(frame, []byte(Marker))
	from, to := addressesOf(frame)
	found := slices.ContainsFunc(inner, func(p netip.Prefix) bool { return p.Contains(from) || p.Contains(to) })
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &t.report
	r.Frames++
	if marked {
		r.Marked++
	}
	if found {
		r.Inner++
	}
	if (marked || found) && r.First == nil {
		r.First = slices.Clone(frame)
	}
	if t.keep != nil && len(r.Kept) < 1000 && t.keep(frame) {
		r.Kept = append(r.Kept, slices.Clone(frame))
	}
}

// addressesOf are those of the IP packet in an Ethernet frame; of ARP's too.
func addressesOf(frame []byte) (from, to netip.Addr) {
	const ethernet = 14
	at := func(offset, size int) netip.Addr {
		if len(frame) < offset+size {
			return netip.Addr{}
		}
		a, _ := netip.AddrFromSlice(frame[offset : offset+size])
		return a
	}
	if len(frame) < ethernet {
		return from, to
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
		return at(ethernet+12, 4), at(ethernet+16, 4)
	case unix.ETH_P_IPV6:
		return at(ethernet+8, 16), at(ethernet+24, 16)
	case unix.ETH_P_ARP:
		return at(ethernet+14, 4), at(ethernet+24, 4)
	}
	return from, to
}

// Stop ends the listening, once all that was on the wire has been seen.
func (t *Tap) Stop() TapReport {
	t.stop()
	t.ended.Wait()
	unix.Close(t.fd)
	return t.report
}

// Send puts frames on the wire as they are, but for their sender's MAC, which is the
// host's: the switch would learn another.
func (h *Host) Send(frames ...[]byte) error {
	return h.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		dev, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		for _, f := range frames {
			f = slices.Concat(f[:6], dev.HardwareAddr, f[12:])
			if err := unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: dev.Index}); err != nil {
				return fmt.Errorf("send a frame of %d bytes: %w", len(f), err)
			}
		}
		return nil
	})
}
