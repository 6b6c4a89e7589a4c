package probe

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/berth-cni/berth/pkg/nstest"
	"golang.org/x/sys/unix"
)

// broken joins the hosts by a program that copies frames byte for byte, as hardware
// does that says it completes checksums and does not: what a host leaves to the
// device stays undone.
func broken(t testing.TB, a, b *host) {
	t.Helper()
	ns := nstest.Namespace(t)
	cable := &host{ns: ns, name: ns[len("/run/netns/"):]}
	var ends [2]int
	for i, h := range []*host{a, b} {
		end := fmt.Sprintf("end%d", i)
		cable.ip(t, fmt.Sprintf(`
			link add %[1]s type veth peer name eth0 netns %[2]s
			link set %[1]s addrgenmode none
			link set %[1]s up`, end, h.name))
		h.ip(t, fmt.Sprintf("addr add %s dev eth0 nodad\nlink set eth0 up", h.underlay))
		// The cable takes frames, not what a device cuts into frames.
		h.run(t, "ethtool", "-K", "eth0", "tso", "off", "gso", "off")
		cable.in(t, func() { ends[i] = tap(t, end) })
	}
	done := make(chan struct{}, 2)
	for i := range ends {
		go func() {
			defer func() { done <- struct{}{} }()
			for buf := make([]byte, 1<<16); ; {
				n, from, err := unix.Recvfrom(ends[i], buf, 0)
				if err == unix.EAGAIN || err == unix.EINTR {
					continue
				}
				if err != nil || n == 0 {
					return
				}
				if from.(*unix.SockaddrLinklayer).Pkttype != unix.PACKET_OUTGOING {
					_, _ = unix.Write(ends[1-i], buf[:n])
				}
			}
		}()
	}
	t.Cleanup(func() {
		for _, h := range []*host{a, b} {
			h.ip(t, "link del eth0") // ends the reading
		}
		<-done
		<-done
		unix.Close(ends[0])
		unix.Close(ends[1])
	})
}

// tap opens a packet socket on a device of the calling thread's namespace.
func tap(t testing.TB, device string) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	request, err := unix.NewIfreq(device)
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}), Ifindex: int(request.Uint32())})
	}
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1})
	}
	if err != nil {
		t.Fatalf("tap %s: %v", device, err)
	}
	return fd
}
