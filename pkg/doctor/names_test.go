package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/names/server"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestAsksForNames asks as a container does. The agent's listeners are threads of
// their own, so that it is in the namespace of all tests.
func TestAsksForNames(t *testing.T) {
	w := emptyHost(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	end := sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		end()
		for _, c := range []string{"nft flush ruleset", "ip link del br-web"} {
			if err := nstest.Run("sh", "-c", c); err != nil {
				t.Error(err)
			}
		}
	})
	s := server.New(server.Config{StateDir: w.Dir, Records: w.Store, Redirect: firewall.MoveNames})
	go func() { ended <- s.Run(ctx) }()
	<-s.Ready()
	w.Container(1, true)
	w.Container(2, true)
	if code, bad := w.doctor(); code != allWell || len(bad) > 0 {
		t.Errorf("%d, %q", code, bad)
	}

	w.Sh("nft add table inet wall && nft add chain inet wall gate '{ type filter hook input priority 0; policy drop; }' && nft add rule inet wall gate iifname lo accept")
	code, bad := w.doctor()
	if code != problems || !strings.Contains(bad[inNames], "container web1 asked 10.81.0.1 for web1: no answer") ||
		!strings.Contains(bad[inFirewalls], "no rule there names port 10053 or bridge br-web") {
		t.Errorf("%d, %q", code, bad)
	}
	w.Sh("nft add rule inet wall gate iifname br-web udp dport 10053 accept")
	if code, bad := w.doctor(); code != allWell || len(bad) > 0 {
		t.Errorf("%d, %q", code, bad)
	}
	w.Sh("nft delete table inet wall")

	w.Sh("nft delete element inet berth names '{ br-web }'") // who asks gets to port 53, where nobody is
	if _, bad := w.doctor(); !strings.Contains(bad[inNames], "for web1: ") || !strings.Contains(bad[inFaults], "the firewall of web1, web2") {
		t.Errorf("%q", bad)
	}
	if code, bad := w.doctor("--fix"); code != allWell {
		t.Errorf("--fix: %d, %q", code, bad)
	}

	w.Sh("ip link del br-web") // the agent listens on one that is no more
	if code, bad := w.doctor("--fix"); code != allWell {
		t.Errorf("--fix: %d, %q", code, bad)
	}

	takenPort(t, w)

	end()
	code, bad = w.doctor()
	if code != problems || len(bad) != 1 || !strings.HasPrefix(bad[inNames], "no agent answers for the names of this host's containers") {
		t.Errorf("%d, %q", code, bad)
	}
}

// takenPort has another program take the port that names are answered on.
func takenPort(t *testing.T, w *testHost) {
	t.Helper()
	w.Sh("ip link del br-web")
	var other net.PacketConn
	var err error
	for range 50 { // until the agent has seen that its bridge is gone
		if other, err = net.ListenPacket("udp4", ":10053"); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.reload()
	if err := w.hears(); err != nil {
		t.Errorf("with another port: %v", err)
	}
	want := fmt.Sprintf("(pid %d) has port 10053: the agent answers for names on port ", os.Getpid())
	if _, bad := w.doctor(); !strings.Contains(bad[inNames], want) {
		t.Errorf("%q, want %s", bad, want)
	}
	w.Sh("nft flush ruleset") // the redirection to the other port, too
	w.reload()
	for range 500 {
		if err = w.hears(); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		t.Errorf("after a flush: %v", err)
	}
	other.Close()
}

// hears tells whether all who ask for names are answered.
func (w *testHost) hears() error {
	all, err := w.Store.List(context.Background(), "")
	for _, q := range askNames(all) {
		err = errors.Join(err, q.Err)
	}
	return err
}

// TestHostUnanswered: the agent could not listen for the host's own programs.
func TestHostUnanswered(t *testing.T) {
	f := &facts{Host: hostFacts{Names: &names.Status{Port: names.Port, HostDeaf: "answer DNS for this host: address already in use"}}}
	if found, err := checkNames(f); err != nil || len(found) != 1 || found[0].What != f.Host.Names.HostDeaf {
		t.Errorf("%+v, %v", found, err)
	}
	f.Host.Names.HostDeaf = ""
	if found, err := checkNames(f); err != nil || len(found) != 0 {
		t.Errorf("%+v, %v", found, err)
	}
}
