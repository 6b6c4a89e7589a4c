package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// The reference's chain on a bridge, with the backend of its rules in the verb's place.
const referenceChain = `{"type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "ipMasq": true, "ipMasqBackend": %[1]q, "hairpinMode": true,
	"ipam": {"type": "host-local", "ranges": [[` + subnet + `], [` + subnet6 + `]]}}`

// TestMigrate replaces the reference's bridge by ours under running containers: DEL leaves
// nothing of what the reference made, whether portmap is asked as well (as libcni does) or
// not (its binary is gone), and with the namespace gone.
func TestMigrate(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"iptables", "nftables"} {
		for _, way := range []string{"chain", "bridge alone", "namespace gone"} {
			t.Run(backend+"/"+way, func(t *testing.T) {
				t.Parallel()
				testMigrate(t, backend, way)
			})
		}
	}
}

func testMigrate(t *testing.T, backend, way string) {
	b := newBed(t)
	portmap := fmt.Sprintf(`{"type": "portmap", "backend": %q, "capabilities": {"portMappings": true}}`, backend)
	conf := conflist("1.0.0", fmt.Sprintf(referenceChain, backend), portmap)
	theirs, err := b.Network(conf, b.ref)
	must(t, err)
	ours, err := b.Network(conf, b.bin, b.ref)
	must(t, err)
	ports := []sandbox.Option{tcpPort(8080, 80)}
	stays := b.container("stays") // a neighbour that goes on
	b.add(theirs, stays, tcpPort(8081, 80))
	// Duplicate address detection of the gateway ends whenever it does.
	before := b.snapshot().Without("route6")
	c := b.container("c1")
	b.add(theirs, c, ports...)
	must(t, ours.Check(c, ports...))
	_, err = stays.Output("ip", "route", "del", "default")
	must(t, err)
	if ours.Check(stays, tcpPort(8081, 80)) == nil {
		t.Error("CHECK finds nothing where the default route of a container of the reference is gone")
	}
	switch way {
	case "namespace gone":
		must(t, c.Remove())
		fallthrough
	case "chain":
		must(t, ours.Del(c, ports...))
	case "bridge alone":
		b.good(b.call(sandbox.Call{Verb: "DEL", Container: c.ID, Netns: c.Netns, Config: config("1.0.0", fmt.Sprintf(referenceChain, backend))}))
		out, err := c.Output("ip", "-br", "link")
		must(t, err)
		if strings.Contains(out, "eth0") {
			t.Errorf("eth0 is there still:\n%s", out)
		}
		_, err = b.Output("rm", "/var/lib/cni/cache-libcni/results/demo-c1-eth0") // as libcni does
		must(t, err)
	}
	if way != "namespace gone" {
		must(t, c.Remove())
	}
	if diff := before.Diff(b.snapshot().Without("route6")); diff != nil {
		t.Errorf("DEL of a container that the reference made: the host is not as before:\n%s", strings.Join(diff, "\n"))
	}
	// The neighbour is reached as before, and a new container is ours.
	next := b.container("next")
	b.add(ours, next, tcpPort(8082, 80))
	must(t, ours.Del(next, tcpPort(8082, 80)))
	must(t, ours.Del(stays, tcpPort(8081, 80)))
	left, err := b.Output("sh", "-c", "nft list ruleset; iptables-save; ip6tables-save; ls /var/lib/cni/networks/demo")
	must(t, err)
	for _, word := range []string{"10.88.0.", stays.ID, next.ID, c.ID} {
		if strings.Contains(left, word) {
			t.Errorf("%s is left:\n%s", word, left)
		}
	}
}

// TestMigrateBack puts the reference's bridge back under containers that ours made: they
// are checked and deleted by it, and what only ours knows of them goes with gc.
func TestMigrateBack(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"iptables", "nftables"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			conf := conflist("1.0.0", fmt.Sprintf(referenceChain, backend))
			theirs, err := b.Network(conf, b.ref)
			must(t, err)
			ours, err := b.Network(conf, b.bin, b.ref)
			must(t, err)
			c := b.container("c1")
			_, ip := b.add(ours, c)
			serve(t, c, ip+":80")
			must(t, theirs.Check(c))
			b.answers(b.Host, ip+":80", c, "")
			must(t, theirs.Del(c))
			must(t, c.Remove())
			out, err := b.Output(b.bin+"/berth", "gc", "--yes")
			must(t, err)
			if !strings.Contains(out, c.ID) {
				t.Errorf("berth gc said nothing of the container:\n%s", out)
			}
			left, err := b.Output("sh", "-c", "nft list ruleset; iptables-save; ip6tables-save; ls /var/lib/cni/networks/demo; "+b.bin+"/berth ps")
			must(t, err)
			for _, word := range []string{ip, c.ID} {
				if strings.Contains(left, word) {
					t.Errorf("%s is left:\n%s", word, left)
				}
			}
			next := b.container("next")
			b.add(theirs, next)
			must(t, theirs.Del(next))
		})
	}
}

// TestForeignLeftovers has the reference leave something, as its DEL of a namespace that is
// gone does: the doctor says so, and gc removes it when told to.
func TestForeignLeftovers(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	conf := conflist("1.0.0", fmt.Sprintf(referenceChain, "iptables"), `{"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}}`)
	theirs, err := b.Network(conf, b.ref)
	must(t, err)
	lives, gone := b.container("lives"), b.container("gone")
	b.add(theirs, lives, tcpPort(8080, 80))
	b.add(theirs, gone, tcpPort(8081, 80))
	must(t, gone.Remove())
	_, err = b.Output("rm", "/var/lib/cni/cache-libcni/results/demo-"+gone.ID+"-eth0") // its runtime forgot it
	must(t, err)
	berth := b.bin + "/berth"
	out, _ := b.Output("sh", "-c", berth+" doctor --conf-dir /etc/cni/net.d 2>&1; "+berth+" doctor 2>&1")
	if !strings.Contains(out, "the reference plugins left what no container needs") || !strings.Contains(out, gone.ID) || strings.Contains(out, "container "+lives.ID) {
		t.Errorf("doctor:\n%s", out)
	}
	out, err = b.Output(berth, "gc") // nobody is there to be asked
	must(t, err)
	if !strings.Contains(out, "left rules of container "+gone.ID) || !strings.Contains(out, "--yes removes it") {
		t.Errorf("gc without an answer:\n%s", out)
	}
	out, err = b.Output(berth, "gc", "--yes")
	must(t, err)
	if !strings.Contains(out, "removed address 10.88.0.3 of container "+gone.ID) {
		t.Errorf("gc:\n%s", out)
	}
	left, err := b.Output("sh", "-c", "nft list ruleset; iptables-save; ip6tables-save; ls /var/lib/cni/networks/demo")
	must(t, err)
	for word, want := range map[string]bool{"10.88.0.3": false, gone.ID: false, "10.88.0.2": true, lives.ID: true} {
		if strings.Contains(left, word) != want {
			t.Errorf("%s is there: %v, want %v:\n%s", word, !want, want, left)
		}
	}
	must(t, theirs.Del(lives, tcpPort(8080, 80)))
}
