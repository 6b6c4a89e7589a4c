package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/firewall/publish"
	"github.com/berth-cni/berth/pkg/link"
)

// plan plans a configuration, to which it gives a name.
func plan(conf string) ([]attach.Step, error) {
	conf = strings.Replace(strings.Replace(conf, "{", `{"name": "n", `, 1), ", }", "}", 1)
	r, err := cni.NewRequest(&cni.CmdArgs{StdinData: []byte(conf)}, &config{Bridge: "cni0"})
	if err != nil {
		return nil, err
	}
	return r.Plan()
}

// step is the one of its type in a plan; nil when there is none.
func step[S attach.Step](steps []attach.Step) S {
	for _, s := range steps {
		if s, ok := s.(S); ok {
			return s
		}
	}
	var none S
	return none
}

// problems plans a configuration and returns what is wrong with it.
func problems(conf string) error {
	_, err := plan(conf)
	return err
}

func TestRefused(t *testing.T) {
	for conf, want := range map[string][]string{
		`{"bridge": "a/b"}`:          {`bridge: "a/b"`, "15 characters"},
		`{"mtu": 20}`:                {"mtu: 20: want 68"},
		`{"hostBindingIPv4": "::1"}`: {`hostBindingIPv4: "::1": want an IPv4 address`},
		`{"mtu": 1279, "ipam": {"subnet": "fd00::/64"}}`: {"mtu: 1279: want at least 1280"},
		`{"vlan": 4095}`: {"vlan: 4095", "4094"},
		`{"vlanTrunk": [{"id": 0}, {"minID": 5}]}`:                                                                               {"vlanTrunk[0].id: 0", "vlanTrunk[1]", "both or none"},
		`{"vlanTrunk": [{"minID": 9, "maxID": 5}]}`:                                                                              {"vlanTrunk[0]", "minID <= maxID"},
		`{"hairpinMode": true, "promiscMode": true}`:                                                                             {"hairpinMode", "promiscMode"},
		`{"ipMasqBackend": "pf"}`:                                                                                                {`ipMasqBackend: "pf": want auto, nftables or iptables`},
		`{"disableContainerInterface": true, "ipam": {"a":1}}`:                                                                   {"disableContainerInterface", "ipam"},
		`{"gatewayModeIPv4": "nat", "ipam": {"subnet": "10.1.0.0/24"}}`:                                                          {`gatewayModeIPv4: "nat": want isGateway or isDefaultGateway`},
		`{"gatewayModeIPv4": "routed", "isDefaultGateway": true}`:                                                                {`gatewayModeIPv4: "routed": want an ipam section`},
		`{"gatewayModeIPv4": "isolated", "gatewayModeIPv6": "x", "isGateway": true, "ipam": {"subnet": "10.1.0.0/24"}}`:          {`gatewayModeIPv4: "isolated": want internal`, `gatewayModeIPv6: "x"`},
		`{"gatewayModeIPv4": "isolated", "internal": true, "names": true, "isGateway": true, "ipam": {"subnet": "10.1.0.0/24"}}`: {"names: true", "no gateway"},
		`{"ipspoofchk": true}`:                                      {"ipspoofchk: true: want an ipam section"},
		`{"names": true}`:                                           {"names: true", "no gateway"},
		`{"ipam": {"subnet": "10.1.0.0/33"}}`:                       {"ipam.subnet", "10.1.0.0/33"},
		`{"runtimeConfig": {"ipRanges": [[{}]], "aliases": ["x"]}}`: {"runtimeConfig.aliases"},
	} {
		err := problems(conf)
		if err == nil {
			t.Errorf("%s is accepted", conf)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %q", conf, err, w)
			}
		}
	}
}

func TestAccepted(t *testing.T) {
	for _, conf := range []string{
		`{}`, `{"ipam": {}}`, `{"mtu": 1400, "vlan": 7, "vlanTrunk": [{"id": 3}, {"minID": 10, "maxID": 12}]}`,
		`{"runtimeConfig": {"bandwidth": {"IngressRate": 0, "EgressRate": 0}, "dns": null, "aliases": []}}`,
		`{"ipam": {"subnet": "10.1.0.0/16", "dataDir": "/tmp"}, "somethingElse": 1}`,
	} {
		if err := problems(conf); err != nil {
			t.Errorf("%s: %v", conf, err)
		}
	}
}

func TestTrunk(t *testing.T) {
	c := &config{Bridge: "cni0"}
	r, err := cni.NewRequest(&cni.CmdArgs{StdinData: []byte(`{"name": "n", "vlanTrunk": [{"minID": 10, "maxID": 12}, {"id": 3}, {"id": 11}]}`)}, c)
	if err == nil {
		_, err = r.Plan()
	}
	if got := fmt.Sprint(c.trunk); err != nil || got != "[3 10 11 12]" {
		t.Errorf("trunk %s, %v", got, err)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add(`{"bridge": "b", "vlanTrunk": [{"id": 1}], "ipam": {"ranges": [[{"subnet": "10.0.0.0/8"}]]}}`)
	f.Add(`{"ipam": {"subnet": "fd00::/64", "exclude": ["fd00::1"], "routes": [{"dst": "::/0"}]}, "mtu": -1}`)
	f.Fuzz(func(t *testing.T, conf string) { _ = problems(conf) }) // must not panic
}

// TestIsolated: a family without a gateway has none anywhere.
func TestIsolated(t *testing.T) {
	const both = `"internal": true, "isGateway": true, "ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]]}}`
	for conf, want := range map[string]struct {
		bridge       link.Bridge
		gateway      link.Gateway
		forwards     bool
		knownSubnets int
	}{
		`{` + both: {link.Bridge{Gateway: true}, link.Gateway{Gateway: true}, true, 2},
		`{"gatewayModeIPv4": "isolated", ` + both:                                {link.Bridge{Gateway: true}, link.Gateway{Gateway: true, Isolated4: true}, true, 2},
		`{"gatewayModeIPv6": "isolated", ` + both:                                {link.Bridge{Gateway: true, NoIPv6: true}, link.Gateway{Gateway: true, Isolated6: true}, true, 2},
		`{"gatewayModeIPv4": "isolated", "gatewayModeIPv6": "isolated", ` + both: {link.Bridge{NoIPv6: true}, link.Gateway{Isolated4: true, Isolated6: true}, false, 0},
	} {
		steps, err := plan(conf)
		if err != nil {
			t.Errorf("%s: %v", conf, err)
			continue
		}
		want.bridge.Name, want.gateway.NoDefault = "cni0", true
		br, gw, f, n := step[*link.Bridge](steps), step[*link.Gateway](steps), step[*link.Forwarding](steps), step[*attach.Network](steps)
		if *br != want.bridge || *gw != want.gateway || f.Gateway != want.forwards || len(n.Subnets) != want.knownSubnets {
			t.Errorf("%s: %+v %+v %+v, subnets %v", conf, br, gw, f, n.Subnets)
		}
	}
}

// TestAcceptRA: router advertisements are for a container that IPAM gives no address, or
// that asks for them.
func TestAcceptRA(t *testing.T) {
	for conf, want := range map[string]bool{
		`{}`: true, `{"ipam": {}}`: true, `{"acceptRA": false}`: false,
		`{"ipam": {"subnet": "10.1.0.0/16"}}`: false, `{"ipam": {"type": "host-local"}}`: false,
		`{"ipam": {"type": "dhcp"}, "acceptRA": true}`: true,
	} {
		steps, err := plan(conf)
		if err != nil {
			t.Errorf("%s: %v", conf, err)
			continue
		}
		if v := step[*link.Veth](steps); v.AcceptRA != want {
			t.Errorf("%s: acceptRA %t, want %t", conf, v.AcceptRA, want)
		}
	}
}

// TestHostBinding: a port without an address of the host is published on the network's, any
// other where it is to be.
func TestHostBinding(t *testing.T) {
	steps, err := plan(`{"hostBindingIPv4": "127.0.0.1", "isGateway": true, "ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]]},
		"runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80}, {"hostPort": 81, "containerPort": 81, "hostIP": "192.0.2.1"}]}}`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range step[*publish.Ports](steps).Ports {
		got = append(got, p.HostIP.String())
	}
	if text := strings.Join(got, " "); text != "127.0.0.1 192.0.2.1" {
		t.Errorf("published on %s", text)
	}
}
