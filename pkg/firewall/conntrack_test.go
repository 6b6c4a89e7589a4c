package firewall

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestFlowFollows has one UDP client that keeps its port while containers come
// and go.
func TestFlowFollows(t *testing.T) {
	for _, backend := range []string{NFTables, IPTables} {
		t.Run(backend, func(t *testing.T) {
			l := newLab(t, backend, false)
			r := l.network(1)
			var client, local net.Conn
			nstest.In(t, l.ns["out"], func() { client, _ = net.Dial("udp", "192.0.2.1:8080") })
			local, _ = net.Dial("udp", "127.0.0.1:8080")
			defer client.Close()
			defer local.Close()
			ask := func(want string) {
				t.Helper()
				for _, c := range []net.Conn{client, local} {
					// An earlier refusal may still wait in the socket, and is the
					// first thing a read returns.
					talk(c, 20*time.Millisecond)
					got := talk(c, 150*time.Millisecond)
					if name, _, _ := strings.Cut(got, " "); name != want {
						t.Errorf("answer %q, want one of %q", got, want)
					}
				}
			}
			ask(noAnswer)
			port := attach.Port{HostPort: 8080, ContainerPort: 80, Protocol: "udp"}
			a := l.container("a", r, 2, port)
			ask("a")
			if err := r.Del(context.Background(), a); err != nil {
				t.Fatal(err)
			}
			ask(noAnswer)
			l.container("b", r, 3, port)
			ask("b")
		})
	}
}
