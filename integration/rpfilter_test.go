package integration

import (
	"fmt"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// TestStrictReversePath is for hosts that drop what comes by another way than its sender is
// reached by (rp_filter 1, as on RHEL): a container of two networks is reached by a port of
// either, though it answers by its default route.
func TestStrictReversePath(t *testing.T) {
	t.Parallel()
	for _, setting := range []string{"all", "default"} {
		for _, first := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/published on the first %v", setting, first), func(t *testing.T) {
				t.Parallel()
				b := newBed(t)
				_, err := b.Output("sysctl", "-qw", "net.ipv4.conf."+setting+".rp_filter=1")
				must(t, err)
				network := func(name, subnet string) *sandbox.Network {
					n, err := b.Network(fmt.Sprintf(`{"cniVersion": "1.0.0", "name": %[1]q, "plugins": [{"type": "bridge", "bridge": %[1]q, "isDefaultGateway": true, "ipMasq": true,
						"capabilities": {"portMappings": true}, "ipam": {"subnet": %[2]q}}]}`, name, subnet), b.bin)
					must(t, err)
					return n
				}
				one, two := network("one", "10.91.0.0/16"), network("two", "10.92.0.0/16")
				c := b.container("c1")
				ports := [2][]sandbox.Option{{sandbox.IfName("eth0")}, {sandbox.IfName("eth1")}}
				published := 1
				if first {
					published = 0
				}
				ports[published] = append(ports[published], tcpPort(8080, 80))
				_, err = one.Add(c, ports[0]...)
				must(t, err)
				_, err = two.Add(c, ports[1]...)
				must(t, err)
				serve(t, c, "0.0.0.0:80")
				b.answers(b.outside, "192.0.2.1:8080", c, "192.0.2.2")
				must(t, one.Check(c, ports[0]...))
				must(t, two.Check(c, ports[1]...))
			})
		}
	}
}
