package integration

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
)

// TestDeadHolders: a container whose namespace ended without a DEL keeps neither its
// port, nor its address, nor the last free address from the next one; one that lives
// keeps all.
func TestDeadHolders(t *testing.T) {
	t.Parallel()
	const few = `"ipam": {"ranges": [[{"subnet": "10.88.0.0/29"}]]}` // five containers
	macvlan := `{"type": "macvlan", "master": "` + sandbox.Uplink + `", ` + few + `, "capabilities": {"ips": true}}`
	for name, plugin := range map[string]string{
		"bridge, nftables": `{` + noIPAM + `, "firewallBackend": "nftables", ` + few + `}`,
		"bridge, iptables": `{` + noIPAM + `, "firewallBackend": "iptables", ` + few + `}`,
		"macvlan":          macvlan,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			n := b.network(plugin)
			opts := func(ip string) []sandbox.Option {
				o := []sandbox.Option{sandbox.Cap("ips", []string{ip})}
				if name != "macvlan" {
					o = append(o, tcpPort(8080, 80))
				}
				return o
			}
			dead := b.container("dead")
			b.add(n, dead, opts("10.88.0.4")...)
			living := b.container("living")
			b.add(n, living, sandbox.Cap("ips", []string{"10.88.0.5"}))
			must(t, dead.Remove())
			next := b.container("next")
			var err error
			for range 50 { // the kernel ends a namespace a moment after its last path
				if _, err = n.Add(next, opts("10.88.0.4")...); err == nil {
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
			must(t, err)
			must(t, n.Check(next, opts("10.88.0.4")...))
			if _, err := n.Add(b.container("greedy"), sandbox.Cap("ips", []string{"10.88.0.5"})); err == nil || !strings.Contains(err.Error(), living.ID) {
				t.Errorf("the address of a container that lives: %v", err)
			}
			for i := range 4 { // more than there are
				c := b.container(fmt.Sprint("c", i))
				if _, err = n.Add(c); err != nil {
					break
				}
				must(t, c.Remove())
			}
			last := b.container("last")
			for range 50 {
				if _, err = n.Add(last); err == nil {
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
			must(t, err)
			must(t, n.Check(living))
		})
	}
}

// TestFreedPort: of two networks of a container that ask for a port the first has it,
// and after its DEL the second.
func TestFreedPort(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"nftables", "iptables"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			second, err := b.Network(fmt.Sprintf(`{"cniVersion": %q, "name": "second", "plugins": [{"type": "bridge", "bridge": "berth1", "isGateway": true,
				"ipMasq": true, "firewallBackend": %q, "capabilities": {"portMappings": true}, "ipam": {"subnet": "10.99.0.0/24"}}]}`, version, backend), b.bin)
			must(t, err)
			first := b.network(with(bridge, `"firewallBackend": "`+backend+`"`))
			c := b.container("c1")
			serve(t, c, ":80")
			second0 := []sandbox.Option{tcpPort(8080, 80), sandbox.IfName("eth1")}
			b.add(first, c, tcpPort(8080, 80))
			_, err = second.Add(c, second0...)
			must(t, err)
			b.answers(b.outside, sandbox.HostAddr4+":8080", c, sandbox.OutsideAddr4)
			must(t, first.Del(c, tcpPort(8080, 80)))
			must(t, second.Check(c, second0...))
			must(t, b.Script("ip -n c1 route add default via 10.99.0.1"))
			b.answers(b.outside, sandbox.HostAddr4+":8080", c, sandbox.OutsideAddr4)
			b.answers(b, "127.0.0.1:8080", c, "")
			if out, err := b.Output(filepath.Join(b.bin, "berth"), "ps"); err != nil || !strings.Contains(out, "8080") {
				t.Errorf("ps: %s (%v)", out, err)
			}
			must(t, second.Del(c, second0...))
			if _, err := b.outside.Ask(sandbox.HostAddr4 + ":8080"); err == nil {
				t.Error("the port answers after both have gone")
			}
		})
	}
}
