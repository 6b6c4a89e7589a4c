package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/ipam"
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
		`{"bridge": "a/b"}`: {`bridge: "a/b"`, "15 characters"},
		`{"mtu": 20}`:       {"mtu: 20: want 68"},
		`{"mtu": 1279, "ipam": {"subnet": "fd00::/64"}}`: {"mtu: 1279: want at least 1280"},
		`{"vlan": 4095}`: {"vlan: 4095", "4094"},
		`{"vlanTrunk": [{"id": 0}, {"minID": 5}]}`:                  {"vlanTrunk[0].id: 0", "vlanTrunk[1]", "both or none"},
		`{"vlanTrunk": [{"minID": 9, "maxID": 5}]}`:                 {"vlanTrunk[0]", "minID <= maxID"},
		`{"hairpinMode": true, "promiscMode": true}`:                {"hairpinMode", "promiscMode"},
		`{"ipMasqBackend": "pf"}`:                                   {`ipMasqBackend: "pf": want auto, nftables or iptables`},
		`{"disableContainerInterface": true, "ipam": {"a":1}}`:      {"disableContainerInterface", "ipam"},
		`{"names": true}`:                                           {"names: true", "no gateway"},
		`{"ipam": {"subnet": "10.1.0.0/33"}}`:                       {"ipam.subnet", "10.1.0.0/33"},
		`{"runtimeConfig": {"bandwidth": {"ingressRate": 1}}}`:      {"runtimeConfig.bandwidth", "not part of this version"},
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
	_ = json.Unmarshal([]byte(`{"vlanTrunk": [{"minID": 10, "maxID": 12}, {"id": 3}, {"id": 11}]}`), c)
	c.validate(&cni.Request{Conf: c.Common(), IPAM: &ipam.Config{}})
	got, _ := json.Marshal(c.trunk)
	if string(got) != "[3,10,11,12]" {
		t.Errorf("trunk %s", got)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add(`{"bridge": "b", "vlanTrunk": [{"id": 1}], "ipam": {"ranges": [[{"subnet": "10.0.0.0/8"}]]}}`)
	f.Add(`{"ipam": {"subnet": "fd00::/64", "exclude": ["fd00::1"], "routes": [{"dst": "::/0"}]}, "mtu": -1}`)
	f.Fuzz(func(t *testing.T, conf string) { _ = problems(conf) }) // must not panic
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
