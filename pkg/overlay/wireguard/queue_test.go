package wireguard

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// testQueue sends as many datagrams as a busy host may send before the process that has the
// device runs again. All arrive.
func testQueue(t *testing.T, one, two *host) {
	const most = 1000
	from, to := one.listen(4), two.listen(4)
	raw, err := to.SyscallConn()
	fatal(t, err)
	fatal(t, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) }))
	fatal(t, err)
	pid := one.pid()
	fatal(t, unix.Kill(pid, unix.SIGSTOP))
	gone(t, pid)
	b := make([]byte, 100)
	for range most {
		if _, err = from.WriteToUDPAddrPort(b, to.LocalAddr().(*net.UDPAddr).AddrPort()); err != nil {
			break
		}
	}
	fatal(t, unix.Kill(pid, unix.SIGCONT))
	fatal(t, err)
	_ = to.SetReadDeadline(time.Now().Add(5 * time.Second))
	for n := range most {
		if _, err := to.Read(b); err != nil {
			t.Fatalf("%d of %d datagrams arrived: %v", n, most, err)
		}
	}
}
