package runtimes

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// The other modes, as networks. The one to share with is called
// "owner"; macvlan puts containers on the LAN of the host's uplink.
var modeNetworks = []network{
	mode("on-host", `{"type": "host"}`),
	mode("on-none", `{"type": "none"}`),
	mode("share", `{"type": "container-share", "container": "owner"}`),
	mode("lan", `{"type": "macvlan", "ipam": {
		"ranges": [[{"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.100", "gateway": "192.0.2.2"}],
		           [{"subnet": "2001:db8::/64", "rangeStart": "2001:db8::100", "gateway": "2001:db8::2"}]],
		"routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}`),
}

func mode(name, plugin string) network {
	return network{name, fmt.Sprintf(`{`+everyVersion+`, "name": %q, "plugins": [%s]}`, name, plugin)}
}

// TestContainerdModes runs pods whose runtime handler has a network of another mode.
func TestContainerdModes(t *testing.T) {
	for _, c := range containerds {
		t.Run(c.name, func(t *testing.T) {
			d := newDaemon(t, c, podNetwork, modeNetworks...)
			for handler, hostPort := range map[string]int32{"": 7999, "lan": 0} { // what a network leaves by design
				first, err := d.runPodOn(t, handler, "first", 80, hostPort)
				must(t, err)
				first.stop(t)
				first.remove(t)
			}
			empty := d.snapshot(t)
			for _, test := range []struct {
				name string
				run  func(*testing.T, *daemon)
			}{{"host", podOnHost}, {"none", podOnNone}, {"container-share", podShares}, {"macvlan", podOnLAN}} {
				t.Run(test.name, func(t *testing.T) {
					defer d.removeAllBut(t) // of a test that failed
					test.run(t, d)
					d.removeAllBut(t)
					d.same(t, empty, "after the last pod")
				})
			}
		})
	}
}

// podOnHost: the second pod is there while the first one ends.
func podOnHost(t *testing.T, d *daemon) {
	var pods []*pod
	for i, name := range []string{"h1", "h2"} {
		p, err := d.runPodOn(t, "on-host", name, int32(81+i), 0)
		must(t, err)
		if p.ip4 != sandbox.HostAddr4 || p.ip6 != sandbox.HostAddr6 {
			t.Errorf("%s has %s and %s, want the host's", name, p.ip4, p.ip6)
		}
		answered(t, d.fromOutside, at(sandbox.HostAddr4, 81+i), name, sandbox.OutsideAddr4)
		pods = append(pods, p)
	}
	answered(t, pods[0].ask, "127.0.0.1:82", "h2", "127.0.0.1")
	for _, p := range pods {
		p.stop(t)
		if out, err := d.Output("ip", "-br", "address"); err != nil || !strings.Contains(out, "127.0.0.1/8") || !strings.Contains(out, sandbox.HostAddr4) {
			t.Errorf("the host after %s: %s %v", p.name, out, err)
		}
		p.remove(t)
	}
}

// podOnNone: containerd wants an address of eth0 in the result, and there is none.
func podOnNone(t *testing.T, d *daemon) {
	_, err := d.runPodOn(t, "on-none", "none", 81, 0)
	if err == nil || !strings.Contains(err.Error(), "failed to find network info") {
		t.Errorf("a pod without an address: %v", err)
	}
}

func podShares(t *testing.T, d *daemon) {
	owner := d.pod(t, "owner", 8080)
	joined, err := d.runPodOn(t, "share", "joined", 81, 0)
	must(t, err)
	if joined.ip4 != owner.ip4 || joined.ip6 != owner.ip6 {
		t.Errorf("%s and %s, want %s and %s", joined.ip4, joined.ip6, owner.ip4, owner.ip6)
	}
	answered(t, joined.ask, "127.0.0.1:80", "owner", "127.0.0.1")
	answered(t, owner.ask, "127.0.0.1:81", "joined", "127.0.0.1")
	answered(t, d.fromHost, at(owner.ip6, 81), "joined", "")
	owner.stop(t)
	refused(t, joined.ask, at(sandbox.OutsideAddr4, 80))
	answered(t, joined.ask, "127.0.0.1:81", "joined", "127.0.0.1") // lo stays
	joined.stop(t)
	joined.remove(t)
	owner.remove(t)
}

func podOnLAN(t *testing.T, d *daemon) {
	p, err := d.runPodOn(t, "lan", "p", 80, 0)
	must(t, err)
	answered(t, d.fromOutside, at(p.ip4, 80), "p", sandbox.OutsideAddr4)
	answered(t, d.fromOutside, at(p.ip6, 80), "p", sandbox.OutsideAddr6)
	answered(t, p.ask, at(sandbox.OutsideAddr4, 80), "outside", p.ip4)
	p.stop(t)
	p.remove(t)
}

// TestPodmanModes runs containers on networks of the other modes.
func TestPodmanModes(t *testing.T) {
	p := newPodman(t)
	for _, m := range modeNetworks {
		p.write("net.d/"+m.handler+".conflist", m.conflist)
	}
	for _, network := range []string{"one", "lan"} {
		p.container(t, "first", "--network="+network, "--publish=7999:80")
		p.remove(t, "first")
	}
	empty := p.snapshot(t)
	p.container(t, "owner", "--network=one")
	for i, network := range []string{"on-host", "on-none", "share", "lan"} {
		p.containerAt(t, network, int32(81+i), "--network="+network)
	}
	if got := p.interfaces(t, "on-host"); got[sandbox.Uplink] == nil || got["berth1"] == nil {
		t.Errorf("host: %q", got)
	}
	answered(t, p.fromOutside, at(sandbox.HostAddr4, 81), "on-host", sandbox.OutsideAddr4)
	if got := p.interfaces(t, "on-none"); len(got) != 1 || got["lo"] == nil {
		t.Errorf("none: %q, want lo alone", got)
	}
	if got, owner := p.interfaces(t, "share"), p.interfaces(t, "owner"); fmt.Sprint(got) != fmt.Sprint(owner) {
		t.Errorf("container-share: %q, want the owner's %q", got, owner)
	}
	answered(t, p.in("owner"), "127.0.0.1:83", "share", "127.0.0.1")
	answered(t, p.fromOutside, at(p.interfaces(t, "lan")["eth0"][0], 84), "lan", sandbox.OutsideAddr4)
	p.remove(t, "owner")
	if got := p.interfaces(t, "share"); len(got) != 1 || got["lo"] == nil {
		t.Errorf("container-share without its owner: %q, want lo alone", got)
	}
	p.remove(t, "on-host", "on-none", "share", "lan")
	if out, err := p.Output("ip", "-br", "address"); err != nil || !strings.Contains(out, "127.0.0.1/8") || !strings.Contains(out, sandbox.HostAddr4) {
		t.Errorf("the host after the last container: %s %v", out, err)
	}
	p.same(t, empty, "after the last container")
}
