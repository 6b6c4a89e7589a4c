package integration

import (
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// TestPort: what a running container publishes is changed, and nothing else: it survives
// CHECK, reload, gc and a flush, and goes with the runtime's DEL.
func TestPort(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string]string{
		"nftables": `"firewallBackend": "nftables"`,
		"iptables": `"firewallBackend": "iptables"`,
		"routed":   `"mode": "routed"`,
		"open":     `"gatewayModeIPv4": "routed"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			if name == "open" {
				b.routesIn("10.88.0.0/16", "fd00:88::/64")
			}
			plugin := with(bridge, keys)
			if name == "open" {
				plugin = strings.Replace(plugin, `"ipMasq": true, `, "", 1)
			}
			n, before := b.used(plugin)
			one, two := b.container("c1"), b.container("c2")
			first, _ := b.add(n, one, tcpPort(8080, 80))
			b.add(n, two)
			serve(t, one, ":80")
			serve(t, one, ":81")
			at80, at81 := sandbox.HostAddr4+":8080", sandbox.HostAddr4+":8081"
			if name == "open" { // what is published is let in to the container's own address
				own, _, _ := strings.Cut(first.IPs[0].Address, "/")
				at80, at81 = own+":80", own+":81"
			}
			open := func(at string, want bool) {
				t.Helper()
				if _, err := b.outside.Ask(at); (err == nil) != want {
					t.Errorf("%s answers: %v, want %v", at, err == nil, want)
				}
			}
			published := func(want bool) {
				t.Helper()
				must(t, n.Check(one, tcpPort(8080, 80)))
				open(at80, true)
				open(at81, want)
			}
			published(false)
			b.does("port add c1 8081:81")
			published(true)
			if got := b.does("port c1"); strings.Count(got, "81/tcp -> ") != strings.Count(got, "80/tcp -> ") || !strings.Contains(got, "81/tcp -> ") {
				t.Errorf("port c1: %q", got)
			}
			b.fails("port add c1 8081:82", "published to this container")
			b.fails("port add c1 9000:80 9000:81", "is published to this container already")
			b.fails("port rm c1 8082", "port 8082/tcp is not published: want one of ")
			b.fails("port add nobody 1:1", `no container "nobody"`)
			if name != "open" {
				b.fails("port add c2 8081:80", "held by container c1")
				stop, err := b.Serve("127.0.0.1:9090")
				must(t, err)
				b.fails("port add c2 9090:80", "is taken")
				stop()
			}
			b.does("gc")
			b.does("reload")
			published(true)
			if name != "iptables" {
				must(t, b.Script("nft flush ruleset"))
				b.does("reload")
				published(true)
			}
			b.does("port rm c1 8081")
			published(false)
			b.does("port rm c1 8080:80")
			open(at80, false)
			b.does("port add c1 8080:80 8081:81")
			published(true)
			must(t, n.Del(one, tcpPort(8080, 80)))
			b.does("port add c2 8081:81") // which nobody has any more
			must(t, n.Del(two))
			must(t, one.Remove())
			must(t, two.Remove())
			b.same(before, "after the DEL")
		})
	}
}
