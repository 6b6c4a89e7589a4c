package integration

import (
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// TestPortRebuild: the state file is lost or damaged, and its records are made again: what was
// added to a container by hand stays published, what was taken away does not come back, and
// both can be changed, and go, as before.
func TestPortRebuild(t *testing.T) {
	t.Parallel()
	lose := func() error { return os.Remove(stateFile) }
	damage := func() error { return os.WriteFile(stateFile, []byte(strings.Repeat("x", 1<<15)), 0o600) }
	for name, c := range map[string]struct {
		keys string
		harm func() error
	}{
		"nftables": {`"firewallBackend": "nftables"`, lose},
		"iptables": {`"firewallBackend": "iptables"`, damage},
		"routed":   {`"mode": "routed"`, damage},
		"open":     {`"gatewayModeIPv4": "routed", "gatewayModeIPv6": "routed"`, lose},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			if name == "open" {
				b.routesIn("10.88.0.0/16", "fd00:88::/64")
			}
			plugin := with(bridge, c.keys)
			if name == "open" {
				plugin = strings.Replace(plugin, `"ipMasq": true, `, "", 1)
			}
			n, before := b.used(plugin)
			one, two := b.container("c1"), b.container("c2")
			first, _ := b.add(n, one, tcpPort(8080, 80))
			b.add(n, two)
			at := map[string]string{} // by the container's port
			for port, host := range map[string]string{"80": "8080", "81": "8081", "82": "8082"} {
				serve(t, one, ":"+port)
				at[port] = sandbox.HostAddr4 + ":" + host
				if name == "open" { // what is published is let in to the container's own address
					own, _, _ := strings.Cut(first.IPs[0].Address, "/")
					at[port] = own + ":" + port
				}
			}
			published := func(when string, want ...string) {
				t.Helper()
				var all sync.WaitGroup
				for port, address := range at {
					all.Go(func() {
						if _, err := b.outside.Ask(address); (err == nil) != slices.Contains(want, port) {
							t.Errorf("%s: port %s: %v; want %q to be published", when, port, err, want)
						}
					})
				}
				all.Wait()
			}
			b.does("port add c1 8081:81")
			b.does("port rm c1 8080:80")
			published("before", "81")
			had := b.does("port c1")
			must(t, b.Do(c.harm))
			fixed, _ := b.berth("doctor --fix")
			if has := b.does("port c1"); has != had {
				t.Errorf("the ports were %q, and are %q\n%s", had, has, fixed)
			}
			published("made again", "81")
			b.does("reload")
			published("after reload", "81")
			if name != "open" {
				b.fails("port add c2 8081:80", "held by container c1")
			}
			if name == "open" { // the port of the host means nothing there, and is not known any more
				b.does("port rm c1 81")
			} else {
				b.does("port rm c1 8081")
			}
			published("taken away")
			b.does("port add c1 8080:80 8082:82")
			published("added", "80", "82")
			must(t, n.Del(one, tcpPort(8080, 80)))
			must(t, n.Del(two))
			must(t, errors.Join(one.Remove(), two.Remove()))
			must(t, b.Script("find /run/berth /var/lib/berth -name berth.db.damaged-* -delete"))
			if diff := before.Without("state").Diff(b.snapshot().Without("state")); diff != nil {
				t.Errorf("after the DEL the host is not as before:\n%s", strings.Join(diff, "\n"))
			}
			if held := b.held(); len(held) > 0 {
				t.Errorf("after the DEL records hold %q", held)
			}
		})
	}
}
