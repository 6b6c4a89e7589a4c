package publish

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
	"golang.org/x/sys/unix"
)

func TestListener(t *testing.T) {
	nstest.Host(t)
	if err := nstest.Run("ip", "addr", "add", "192.0.2.1/32", "dev", "lo"); err != nil {
		t.Fatal(err)
	}
	me := fmt.Sprintf("(pid %d)", os.Getpid())
	addr := netip.MustParseAddr
	for _, c := range []struct {
		listen  string // network and address
		port    attach.Port
		holder  bool
		problem string
	}{
		{"tcp4 0.0.0.0:80", attach.Port{HostPort: 80, Protocol: "tcp"}, true, ""},
		{"tcp4 0.0.0.0:80", attach.Port{HostPort: 80, Protocol: "udp"}, false, ""},
		{"tcp4 0.0.0.0:80", attach.Port{HostPort: 81, Protocol: "tcp"}, false, ""},
		{"tcp4 0.0.0.0:80", attach.Port{HostPort: 80, Protocol: "sctp"}, false, ""},
		{"tcp4 0.0.0.0:80", attach.Port{HostPort: 80, Protocol: "tcp", HostIP: addr("192.0.2.1")}, true, ""},
		{"tcp4 0.0.0.0:80", attach.Port{HostPort: 80, Protocol: "tcp", HostIP: addr("::")}, false, ""},
		{"tcp4 127.0.0.1:80", attach.Port{HostPort: 80, Protocol: "tcp"}, true, ""},
		{"tcp4 127.0.0.1:80", attach.Port{HostPort: 80, Protocol: "tcp", HostIP: addr("192.0.2.1")}, false, ""},
		{"tcp [::]:80", attach.Port{HostPort: 80, Protocol: "tcp", HostIP: addr("0.0.0.0")}, true, ""},
		{"tcp6 [::]:80", attach.Port{HostPort: 80, Protocol: "tcp", HostIP: addr("0.0.0.0")}, false, ""}, // Go makes it IPv6 only
		{"tcp6 [::1]:80", attach.Port{HostPort: 80, Protocol: "tcp"}, true, ""},
		{"udp4 0.0.0.0:53", attach.Port{HostPort: 53, Protocol: "udp"}, true, ""},
		{"udp [::]:53", attach.Port{HostPort: 53, Protocol: "udp", HostIP: addr("192.0.2.1")}, true, ""},
		{"", attach.Port{HostPort: 80, Protocol: "tcp", HostIP: addr("203.0.113.9")}, false, "203.0.113.9 is not an address of this host"},
		{"", attach.Port{HostPort: 80, Protocol: "udp", HostIP: addr("2001:db8::9")}, false, "2001:db8::9 is not an address of this host"},
	} {
		t.Run(c.listen+" "+c.port.String(), func(t *testing.T) {
			// The subtest has a goroutine, and so a thread, of its own.
			nstest.Host(t)
			if err := nstest.Run("ip", "addr", "add", "192.0.2.1/32", "dev", "lo"); err != nil {
				t.Fatal(err)
			}
			if network, at, ok := strings.Cut(c.listen, " "); ok {
				defer listen(t, network, at).Close()
			}
			holder, err := Listener(c.port, "")
			if c.problem != "" {
				if err == nil || !strings.Contains(err.Error(), c.problem) {
					t.Fatalf("error %v, want %q", err, c.problem)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.holder != strings.HasSuffix(holder, me) || !c.holder && holder != "" {
				t.Errorf("holder %q, want one: %v", holder, c.holder)
			}
		})
	}
}

func listen(t *testing.T, network, at string) interface{ Close() error } {
	t.Helper()
	if strings.HasPrefix(network, "udp") {
		c, err := net.ListenPacket(network, at)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	l, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestListenerOfContainer: who runs a container keeps its ports bound: podman's conmon itself,
// for nerdctl a child of containerd's shim.
func TestListenerOfContainer(t *testing.T) {
	nstest.Host(t)
	id := strings.Repeat("0123456789abcdef", 4)
	l, err := net.Listen("tcp4", ":80")
	if err != nil {
		t.Fatal(err)
	}
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	shim := exec.Command("sh", "-c", "sleep 600 & exec 3<&-; echo; wait", "shim", "-id", id)
	shim.ExtraFiles = []*os.File{socket}
	shim.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := shim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shim.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(-shim.Process.Pid, syscall.SIGKILL); _ = shim.Wait() }()
	l.Close()
	socket.Close()
	if _, err := out.Read(make([]byte, 1)); err != nil { // then the child alone has it
		t.Fatal(err)
	}
	for container, own := range map[string]bool{id: true, "default-" + id: true, id[:12]: true, id[:11]: false, strings.Repeat("f", 64): false, "": false} {
		holder, err := Listener(attach.Port{HostPort: 80, Protocol: "tcp"}, container)
		if err != nil || own != (holder == "") || !own && !strings.Contains(holder, "(pid ") {
			t.Errorf("container %q: holder %q, error %v; its own: want %v", container, holder, err, own)
		}
	}
}

// A connection that holds the port without listening is no conflict.
func TestListenerEstablished(t *testing.T) {
	nstest.Host(t)
	l, err := net.Listen("tcp4", "127.0.0.1:4000")
	if err != nil {
		t.Fatal(err)
	}
	client, err := net.Dial("tcp4", "127.0.0.1:4000")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	l.Close()
	for _, port := range []int{4000, client.LocalAddr().(*net.TCPAddr).Port} {
		p := attach.Port{HostPort: uint16(port), Protocol: "tcp"}
		if err := tryBind(unix.IPPROTO_TCP, netip.AddrPortFrom(netip.IPv4Unspecified(), p.HostPort), false); err == nil {
			t.Errorf("port %d can be bound: the test shows nothing", port)
		}
		if holder, err := Listener(p, ""); holder != "" || err != nil {
			t.Errorf("port %d: holder %q, error %v", port, holder, err)
		}
	}
	udp, err := net.Dial("udp4", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	p := attach.Port{HostPort: uint16(udp.LocalAddr().(*net.UDPAddr).Port), Protocol: "udp"}
	if holder, err := Listener(p, ""); holder != "" || err != nil {
		t.Errorf("connected UDP socket: holder %q, error %v", holder, err)
	}
}

func BenchmarkListener(b *testing.B) {
	nstest.Host(b)
	for b.Loop() {
		if _, err := Listener(attach.Port{HostPort: 80, Protocol: "tcp"}, ""); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzReceives(f *testing.F) {
	msg := make([]byte, diagLen+8)
	msg[0] = unix.AF_INET6
	copy(msg[diagLen:], []byte{5, 0, diagV6Only, 0, 1})
	f.Add(msg)
	f.Fuzz(func(t *testing.T, msg []byte) {
		receives(msg, netip.MustParseAddrPort("192.0.2.1:0"))
	})
}
