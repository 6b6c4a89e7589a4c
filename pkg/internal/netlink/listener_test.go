package netlink

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/nstest"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

var everything = []bpf.Instruction{Pass}

func listening(t *testing.T, buffer int, filter []bpf.Instruction) *Listener {
	t.Helper()
	l, err := Listen(unix.NETLINK_ROUTE, buffer, filter, unix.RTNLGRP_IPV4_IFADDR)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// newAddress is the request that gives lo 192.0.2.n.
func newAddress(n int) *Request {
	a := netip.AddrFrom4([4]byte{192, 0, 2, byte(n)})
	header := []byte{unix.AF_INET, 32, 0, 0, 0, 0, 0, 0}
	binary.NativeEndian.PutUint32(header[4:], 1)
	return NewRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, header).Addr(unix.IFA_LOCAL, a).Addr(unix.IFA_ADDRESS, a)
}

func lastByte(m Message) int {
	return int(Addr(Find(m.Body[unix.SizeofIfAddrmsg:], unix.IFA_LOCAL)).As4()[3])
}

// heard receives until a message about an address comes.
func heard(t *testing.T, l *Listener, n int) Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		all, err := l.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for m := range all {
			if lastByte(m) == n {
				return m
			}
		}
	}
}

func TestListener(t *testing.T) {
	nstest.Host(t)
	c := dialed(t)
	port, err := c.Port()
	if err != nil {
		t.Fatal(err)
	}
	l := listening(t, 0, everything)
	if err := c.Do([]*Request{newAddress(10)}, nil); err != nil {
		t.Fatal(err)
	}
	if m := heard(t, l, 10); m.Kind != unix.RTM_NEWADDR || m.Port != port {
		t.Errorf("an event of %d, want %d", m.Port, port)
	}
	// Nothing that this socket causes.
	err = l.SetFilter([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 4}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: Host32(port), SkipTrue: 1},
		Pass, Drop,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Do([]*Request{newAddress(11)}, nil); err != nil {
		t.Fatal(err)
	}
	other := dialed(t)
	if err := other.Do([]*Request{newAddress(12)}, nil); err != nil {
		t.Fatal(err)
	}
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		all, err := l.Receive(ctx)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		for m := range all {
			switch lastByte(m) {
			case 11:
				t.Error("the filter let an event through")
			case 12:
				return
			}
		}
	}
}

// Who does not receive in time is told so, and goes on.
func TestLostEvents(t *testing.T) {
	nstest.Host(t)
	l := listening(t, 1, everything)
	c := dialed(t)
	for i := range 20 {
		if err := c.Do([]*Request{newAddress(20 + i)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	lost := false
	for range 100 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err := l.Receive(ctx)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			break // all that there was
		}
		lost = lost || errors.Is(err, unix.ENOBUFS)
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			t.Fatal(err)
		}
	}
	if !lost {
		t.Error("no ENOBUFS")
	}
	if err := c.Do([]*Request{newAddress(99)}, nil); err != nil {
		t.Fatal(err)
	}
	heard(t, l, 99)
}

// A receiver ends with its context or the socket, and the next one receives again.
func TestReceiveEnds(t *testing.T) {
	nstest.Host(t)
	l := listening(t, 0, everything)
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			_, err := l.Receive(ctx)
			ended <- err
		}()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Fatalf("the context ended: %v", err)
		}
	}
	if err := dialed(t).Do([]*Request{newAddress(10)}, nil); err != nil {
		t.Fatal(err)
	}
	heard(t, l, 10)
	ended := make(chan error)
	go func() {
		for {
			if _, err := l.Receive(context.Background()); err != nil {
				ended <- err
				return
			}
		}
	}()
	l.Close()
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if _, err := Listen(unix.NETLINK_ROUTE, 0, everything, 1<<20); err == nil {
		t.Error("joined a group that there is not")
	}
}
