package doctor

import (
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestMendForeignChain does what the doctor says about firewalls of others that drop:
// another machine reaches a published port then, and the container another machine.
func TestMendForeignChain(t *testing.T) {
	const base = "{ type filter hook forward priority 0; policy drop; }"
	for _, damage := range []string{
		"nft add table inet wall && nft add chain inet wall gate '" + base + "'",
		"nft add table ip wall && nft add chain ip wall gate '" + base + "'",
		"iptables-nft -P FORWARD DROP",
		"iptables-legacy -P FORWARD DROP",
	} {
		t.Run(damage, func(t *testing.T) {
			w := newHost(t)
			other := nstest.Namespace(t)
			w.Sh(fmt.Sprintf("ip link set far netns %[1]s && ip -n %[1]s address add 192.0.2.2/24 dev far && ip -n %[1]s link set far up && ip route replace default via 192.0.2.2", filepath.Base(other)))
			a, err := w.Store.Get(t.Context(), attach.Key{Network: "web", Container: "c1", IfName: "eth0"})
			if err != nil {
				t.Fatal(err)
			}
			listen(t, a.Netns, ":80")
			listen(t, other, ":81")
			reach := func() (in, out error) { return dial(t, other, "192.0.2.1:8001"), dial(t, a.Netns, "192.0.2.2:81") }
			if in, out := reach(); in != nil || out != nil {
				t.Fatalf("before: %v, %v", in, out)
			}
			w.Sh(damage)
			if in, out := reach(); in == nil || out == nil {
				t.Fatalf("the damage is none: %v, %v", in, out)
			}
			for _, c := range Diagnose(t.Context(), w.config(), false).Checks {
				for _, p := range c.Problems {
					if c.Check != inFirewalls {
						continue
					}
					if p.Mend == mendReload {
						w.reload()
					} else {
						w.Sh(p.Mend)
					}
				}
			}
			if in, out := reach(); in != nil || out != nil {
				t.Errorf("after what the doctor says: a published port %v, the way out %v", in, out)
			}
			if code, bad := w.doctor(); code != allWell {
				t.Errorf("%d, %q", code, bad)
			}
		})
	}
}

// listen answers in a namespace.
func listen(t *testing.T, netns, at string) {
	t.Helper()
	nstest.In(t, netns, func() {
		l, err := net.Listen("tcp4", at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				c.Close()
			}
		}()
	})
}

// dial connects from a namespace.
func dial(t *testing.T, netns, to string) (err error) {
	t.Helper()
	nstest.In(t, netns, func() {
		var c net.Conn
		if c, err = net.DialTimeout("tcp4", to, 1500*time.Millisecond); err == nil {
			c.Close()
		}
	})
	return err
}
