package runtimes

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// podman on a machine, with the CNI backend.
type podman struct {
	*machine
	program string
}

// Two networks. podman 4 speaks CNI up to 1.0.0, and does not know the built-in IPAM:
// to it these are networks without an IPAM of its own.
func podmanNetwork(name, bridge, subnet4, subnet6 string) string {
	return fmt.Sprintf(`{`+everyVersion+`, "name": %q, "plugins": [
	{"type": "bridge", "bridge": %q, "isGateway": true, "ipMasq": true,
	 "capabilities": {"portMappings": true, "ips": true, "mac": true},
	 "ipam": {"ranges": [[{"subnet": %q}], [{"subnet": %q}]],
	          "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}]}`, name, bridge, subnet4, subnet6)
}

// podmanNamed is a network whose containers know each other by name.
const podmanNamed = `{` + everyVersion + `, "name": "named", "plugins": [
	{"type": "bridge", "bridge": "berth3", "isDefaultGateway": true, "ipMasq": true, "names": true,
	 "capabilities": {"portMappings": true, "ips": true, "mac": true, "aliases": true},
	 "ipam": {"ranges": [[{"subnet": "10.92.0.0/16"}], [{"subnet": "fd00:92::/64"}]]}}]}`

const podmanConf = `[containers]
log_driver = "k8s-file"
[network]
network_backend = "cni"
cni_plugin_dirs = ["%[1]s/plugins"]
network_config_dir = "%[1]s/net.d"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
`

func newPodman(t testing.TB) *podman {
	t.Helper()
	p := &podman{program: need(t, "podman", "podman", "apt-get install podman runc conmon"), machine: newMachine(t)}
	p.write("containers.conf", fmt.Sprintf(podmanConf, p.dir))
	p.write("net.d/one.conflist", podmanNetwork("one", "berth1", "10.88.0.0/16", "fd00:88::/64"))
	p.write("net.d/two.conflist", podmanNetwork("two", "berth2", "10.89.0.0/16", "fd00:89::/64"))
	p.do(t, "load", "--input", imagePath())
	return p
}

// podman runs one of its commands.
func (p *podman) podman(args ...string) (string, error) {
	return p.run(append([]string{"env", "CONTAINERS_CONF=" + p.dir + "/containers.conf", p.program,
		"--root=" + p.state + "/root", "--runroot=" + p.state + "/run", "--tmpdir=" + p.state + "/tmp",
		"--storage-driver=overlay"}, args...)...)
}

func (p *podman) do(t testing.TB, args ...string) string {
	t.Helper()
	out, err := p.podman(args...)
	must(t, err)
	return out
}

// container starts one that runs the test server on port 80; args are podman's.
func (p *podman) container(t testing.TB, name string, args ...string) {
	t.Helper()
	p.containerAt(t, name, 80, args...)
}

// containerAt is container with another port.
func (p *podman) containerAt(t testing.TB, name string, port int32, args ...string) {
	t.Helper()
	p.do(t, append(append([]string{"run", "--detach", "--name=" + name, "--cgroup-parent=" + p.cgroup}, args...),
		image, "serve", name, fmt.Sprint(port))...)
	must(t, listening(p.in(name), port))
}

func (p *podman) remove(t testing.TB, names ...string) {
	t.Helper()
	p.do(t, append([]string{"rm", "--force", "--time=0"}, names...)...)
}

// in asks from a container.
func (p *podman) in(name string) asker {
	return func(network, address string) (string, error) {
		return p.podman("exec", name, "/server", "ask", network, address)
	}
}

// interfaces are those of a container, each with its addresses without their lengths,
// link-local ones left out.
func (p *podman) interfaces(t testing.TB, name string) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for line := range strings.Lines(p.do(t, "exec", name, "ip", "-o", "addr")) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[2], "inet") || strings.HasPrefix(f[3], "fe80") {
			continue
		}
		address, _, _ := strings.Cut(f[3], "/")
		all[f[1]] = append(all[f[1]], address)
	}
	return all
}

func TestPodman(t *testing.T) {
	p := newPodman(t)
	for _, network := range []string{"one", "two"} {
		p.container(t, "first", "--network="+network, "--publish=7999:80")
		p.remove(t, "first")
	}
	empty := p.snapshot(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *podman)
	}{
		{"published ports", podmanPorts}, {"two networks", podmanTwoNetworks}, {"address and MAC", podmanAddress},
		{"reload", podmanReload}, {"connect", podmanConnect}, {"its own modes", podmanModes},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer p.do(t, "rm", "--force", "--time=0", "--all") // of a test that failed
			test.run(t, p)
			p.same(t, empty, "after the last container")
		})
	}
}

func podmanPorts(t *testing.T, p *podman) {
	p.container(t, "a", "--network=one", "--publish=8080:80/tcp", "--publish=8080:80/udp")
	p.container(t, "b", "--network=one")
	a, b := p.interfaces(t, "a")["eth0"], p.interfaces(t, "b")["eth0"]
	if len(a) != 2 || len(b) != 2 {
		t.Fatalf("want one address of each family, got %q and %q", a, b)
	}
	for i, x := range []struct{ host, outside string }{
		{sandbox.HostAddr4, sandbox.OutsideAddr4}, {sandbox.HostAddr6, sandbox.OutsideAddr6},
	} {
		answered(t, p.in("b"), at(a[i], 80), "a", b[i])
		answered(t, p.in("a"), at(x.outside, 80), "outside", x.host)
		answered(t, p.fromOutside, at(x.host, 8080), "a", x.outside)
		answered(t, p.fromHost, at(x.host, 8080), "a", "")
		answered(t, p.in("b"), at(x.host, 8080), "a", "")
		answered(t, p.in("a"), at(x.host, 8080), "a", "")
	}
	answered(t, p.fromHost, "127.0.0.1:8080", "a", "")
	if _, err := p.podman("run", "--rm", "--network=one", "--publish=8080:80", image); err == nil || !strings.Contains(err.Error(), "8080") {
		t.Errorf("a port that is taken: %v", err)
	}
	p.remove(t, "a", "b")
	refused(t, p.fromOutside, at(sandbox.HostAddr4, 8080))
}

// podmanTwoNetworks: podman hands the published ports to both networks, in any order,
// and the first one keeps them. Not for the neighbours on the other one: the answer
// would go to them directly, by the other interface.
func podmanTwoNetworks(t *testing.T, p *podman) {
	p.container(t, "both", "--network=one,two", "--publish=8080:80/tcp", "--publish=8080:80/udp")
	p.container(t, "one", "--network=one")
	p.container(t, "two", "--network=two")
	both := p.interfaces(t, "both")
	if len(both["eth0"]) != 2 || len(both["eth1"]) != 2 {
		t.Fatalf("want two addresses at each of eth0 and eth1, got %q", both)
	}
	one, two := "eth0", "eth1"
	if strings.HasPrefix(both["eth0"][0], "10.89.") {
		one, two = two, one
	}
	for i := range 2 {
		answered(t, p.in("one"), at(both[one][i], 80), "both", "")
		answered(t, p.in("two"), at(both[two][i], 80), "both", "")
	}
	for _, host := range []string{sandbox.HostAddr4, sandbox.HostAddr6} {
		for _, from := range []asker{p.fromOutside, p.fromHost, p.in("both")} {
			answered(t, from, at(host, 8080), "both", "")
		}
	}
	p.remove(t, "both", "one", "two")
	refused(t, p.fromOutside, at(sandbox.HostAddr4, 8080))
}

// podmanAddress: podman passes what is asked for in CNI_ARGS.
func podmanAddress(t *testing.T, p *podman) {
	const address, mac = "10.88.7.7", "02:00:00:00:00:07"
	p.container(t, "a", "--network=one:ip="+address+",mac="+mac)
	if got := p.interfaces(t, "a")["eth0"]; !slices.Contains(got, address) || len(got) != 2 {
		t.Errorf("addresses %q, want %s and one of IPv6", got, address)
	}
	if link := p.do(t, "exec", "a", "ip", "link", "show", "eth0"); !strings.Contains(link, mac) {
		t.Errorf("want the MAC %s: %s", mac, link)
	}
	p.remove(t, "a")
}

// podmanReload: DEL and ADD of a container that runs, after somebody took the
// firewall away. What another container had comes back with it.
func podmanReload(t *testing.T, p *podman) {
	p.container(t, "a", "--network=one", "--publish=8080:80/tcp", "--publish=8080:80/udp")
	p.container(t, "b", "--network=two", "--publish=8081:80/tcp", "--publish=8081:80/udp")
	before, rules := p.interfaces(t, "a"), p.snapshot(t)["nft"]
	p.mustRun("nft", "flush", "ruleset")
	refused(t, p.fromOutside, at(sandbox.HostAddr4, 8080))
	p.do(t, "network", "reload", "a")
	if after := p.interfaces(t, "a"); fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("the addresses were %q, and are %q", before, after)
	}
	if after := p.snapshot(t)["nft"]; !slices.Equal(rules, after) {
		t.Errorf("the firewall was\n%s\nand is\n%s", strings.Join(rules, "\n"), strings.Join(after, "\n"))
	}
	answered(t, p.fromOutside, at(sandbox.HostAddr4, 8080), "a", sandbox.OutsideAddr4)
	answered(t, p.fromOutside, at(sandbox.HostAddr6, 8081), "b", sandbox.OutsideAddr6)
	answered(t, p.in("a"), at(sandbox.OutsideAddr4, 80), "outside", sandbox.HostAddr4)
	p.remove(t, "a", "b")
}

// podmanConnect attaches a container that runs to a second network, and takes it off.
func podmanConnect(t *testing.T, p *podman) {
	p.container(t, "a", "--network=one", "--publish=8080:80/tcp", "--publish=8080:80/udp")
	p.container(t, "b", "--network=two")
	p.do(t, "network", "connect", "two", "a")
	for i, address := range p.interfaces(t, "a")["eth1"] {
		answered(t, p.in("b"), at(address, 80), "a", p.interfaces(t, "b")["eth0"][i])
	}
	answered(t, p.fromOutside, at(sandbox.HostAddr4, 8080), "a", "")
	p.do(t, "network", "disconnect", "two", "a")
	if left := p.interfaces(t, "a"); left["eth1"] != nil || len(left["eth0"]) != 2 {
		t.Errorf("after disconnect: %q", left)
	}
	answered(t, p.fromOutside, at(sandbox.HostAddr4, 8080), "a", sandbox.OutsideAddr4)
	p.remove(t, "a", "b")
}

// podmanModes: the modes that podman has itself, beside a network of Berth's.
func podmanModes(t *testing.T, p *podman) {
	p.container(t, "a", "--network=one")
	p.container(t, "none", "--network=none")
	if got := p.interfaces(t, "none"); len(got) != 1 || got["lo"] == nil {
		t.Errorf("--network none: %q, want lo alone", got)
	}
	p.containerAt(t, "joined", 81, "--network=container:a")
	if a, joined := p.interfaces(t, "a"), p.interfaces(t, "joined"); fmt.Sprint(a) != fmt.Sprint(joined) {
		t.Errorf("--network container:a: %q, want %q", joined, a)
	}
	answered(t, p.in("joined"), "127.0.0.1:80", "a", "127.0.0.1")
	answered(t, p.fromHost, at(p.interfaces(t, "a")["eth0"][0], 81), "joined", "")
	p.containerAt(t, "host", 82, "--network=host")
	if got := p.interfaces(t, "host"); got[sandbox.Uplink] == nil || got["berth1"] == nil {
		t.Errorf("--network host: %q, want the host's", got)
	}
	answered(t, p.fromOutside, at(sandbox.HostAddr4, 82), "host", sandbox.OutsideAddr4)
	answered(t, p.in("a"), "10.88.0.1:82", "host", "")
	p.remove(t, "host", "none", "joined")
	p.remove(t, "a")
}

// TestPodmanNames: podman's CNI backend puts the result's nameserver and domain into the
// container's resolv.conf, and hands its --network-alias and the container's short ID
// over.
func TestPodmanNames(t *testing.T) {
	p := newPodman(t)
	p.write("net.d/named.conflist", podmanNamed)
	p.container(t, "web", "--network=named", "--network-alias=shop")
	p.container(t, "client", "--network=named")
	web := p.interfaces(t, "web")["eth0"]
	path := strings.TrimSpace(p.do(t, "inspect", "--format={{.ResolvConfPath}}", "client"))
	conf, err := p.run("cat", path)
	must(t, err)
	if !strings.Contains(conf, "nameserver 10.92.0.1") || !strings.Contains(conf, "named") {
		t.Errorf("resolv.conf of the client:\n%s", conf)
	}
	for _, name := range []string{"web", "shop", "web.named"} {
		answered(t, p.in("client"), name+":80", "web", "")
	}
	p.do(t, "rm", "--force", "--time=0", "web")
	if out, err := p.in("client")("tcp", "web:80"); err == nil {
		t.Errorf("web (was %s) is gone, and answers: %s", web, out)
	}
	p.remove(t, "client")
}

// TestPodmanNetworkCreate: the conflist that podman writes itself names bridge,
// host-local, portmap, firewall and tuning; the first is Berth's here, the others
// are the reference's.
func TestPodmanNetworkCreate(t *testing.T) {
	p := newPodman(t)
	p.do(t, "network", "create", "--subnet=10.90.0.0/24", "made")
	p.container(t, "a", "--network=made", "--publish=8080:80/tcp", "--publish=8080:80/udp")
	if state := strings.Join(p.snapshot(t)["state"], "\n"); !strings.Contains(state, "made") {
		t.Errorf("Berth has no record of the container:\n%s", state)
	}
	answered(t, p.fromOutside, at(sandbox.HostAddr4, 8080), "a", sandbox.OutsideAddr4)
	answered(t, p.in("a"), at(sandbox.OutsideAddr4, 80), "outside", sandbox.HostAddr4)
	p.remove(t, "a")
	refused(t, p.fromOutside, at(sandbox.HostAddr4, 8080))
	left := p.snapshot(t)
	for _, section := range []string{"link", "state"} {
		for _, line := range left[section] {
			if strings.Contains(line, "veth") && !strings.Contains(line, sandbox.Uplink) || strings.HasPrefix(line, "record") {
				t.Errorf("after the last container: %s: %s", section, line)
			}
		}
	}
}
