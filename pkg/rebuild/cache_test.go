package rebuild

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/link"
)

// cached is a file as libcni writes it.
func cached(network, conflist, capabilities string) []byte {
	config, _ := json.Marshal([]byte(conflist))
	return []byte(`{"kind": "cniCacheV1", "containerId": "c1", "config": ` + string(config) + `, "ifName": "eth0", "networkName": "` + network + `",
		"netns": "/run/netns/none", "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAME", "web"]], "capabilityArgs": ` + capabilities + `,
		"result": {"cniVersion": "1.0.0", "ips": [{"address": "10.88.0.2/16", "gateway": "10.88.0.1"}, {"address": "nonsense"}, 7]}}`)
}

const webList = `{"cniVersion": "1.0.0", "name": "web", "plugins": [{"type": "bridge", "bridge": "br-web", "isGateway": true, "names": true,
	"capabilities": {"portMappings": true, "aliases": true}, "ipam": {"type": "berth-ipam", "subnet": "10.88.0.0/16"}}]}`

func TestParseEntry(t *testing.T) {
	e, ok := parseEntry(cached("web", webList, `{"portMappings": [{"hostPort": 8080, "containerPort": 80}], "aliases": ["www"], "bandwidth": {}}`))
	if !ok || e.key() != (attach.Key{Network: "web", Container: "c1", IfName: "eth0"}) || len(e.Result.IPs) != 3 || e.Result.IPs[0].Address.String() != "10.88.0.2/16" {
		t.Fatalf("%v, %+v", ok, e)
	}
	r, conf := e.request(&e.file.Plugins[0])
	if r == nil || !conf.Names || r.Args["K8S_POD_NAME"] != "web" || len(r.Conf.Runtime.PortMappings) != 1 || string(r.Conf.Runtime.Aliases) != `["www"]` {
		t.Errorf("%+v", r)
	}
	for what, data := range map[string][]byte{
		"another network": cached("other", webList, "{}"), "no name": cached("", webList, "{}"), "a path": cached("../web", webList, "{}"),
		"no plugin": cached("web", `{"name": "web", "plugins": []}`, "{}"), "no JSON": []byte("{"), "a result": []byte(`{"cniVersion": "1.0.0", "ips": []}`), "nothing": nil,
	} {
		if e, ok := parseEntry(data); ok {
			t.Errorf("%s: %+v", what, e)
		}
	}
}

// fuzzed is a builder for whatever a cache says of c1: the kernel has it.
func fuzzed(e *entry) *builder {
	prefix := netip.MustParsePrefix("10.88.0.2/16")
	b := &builder{Config: Config{Now: time.Now}, report: &Report{}, old: &attach.Salvage{}, found: map[string]link.Found{}, held: map[string]*firewall.Held{},
		entries: map[string]*entry{}, records: map[string]*attach.Attachment{}, networks: map[string]attach.Network{}}
	k := e.key()
	b.entries[k.Hash()] = e
	b.found[k.Hash()] = link.Found{Hash: k.Hash(), Link: "br-web", IfName: "eth0", Netns: "/run/netns/none", MAC: "02:42:0a:58:00:02",
		Addresses: []attach.Address{{Prefix: prefix}}, Steps: []attach.Step{&link.Forwarding{}, &link.Bridge{Name: "br-web"}, &link.Veth{Bridge: "br-web"}}}
	b.held[k.Hash()] = &firewall.Held{Rules: firewall.Rules{Backend: firewall.NFTables, Bridge: "br-web", Names: true}, Addresses: []netip.Addr{prefix.Addr()},
		Ports: []attach.Port{{HostIP: netip.IPv4Unspecified(), HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}}
	k.Role = attach.Chained
	b.held[k.Hash()] = b.held[e.key().Hash()]
	return b
}

func FuzzEntry(f *testing.F) {
	f.Add(cached("web", webList, `{"portMappings": [{"hostPort": 8080, "containerPort": 80}, {"hostPort": 8081, "containerPort": 80}]}`))
	f.Add(cached("web", `{"name": "web", "type": "macvlan", "ipam": {"type": "host-local"}}`, "null"))
	f.Add(cached("web", `{"name": "web", "plugins": [{"type": "ptp", "ipam": {"type": "berth-ipam"}}, {"type": "bridge", "dns": 7}]}`, "[]"))
	f.Add(cached("web", `{"name": "web", "plugins": [{"type": "container-share"}]}`, `{"portMappings": "all"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, ok := parseEntry(data)
		if !ok {
			return
		}
		b := fuzzed(e)
		b.fromCaches()
		b.settleWaiting()
		for _, a := range b.made {
			if a.Network != e.Network || a.Container != e.Container || a.IfName != e.IfName {
				t.Errorf("a record of somebody else: %s", a.Key)
			}
			if _, err := json.Marshal(a); err != nil {
				t.Error(err)
			}
		}
	})
}
