package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/ipam"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/overlay"
)

// blue is what the host knows of a network with two blocks of each family.
func blue() *overlay.Local {
	l := &overlay.Local{Node: "a", MTU: 1450, Network: overlay.Network{
		Name: "blue", ID: "1", VNI: 4097, Port: 4789, NodePrefix: []int{24, 64},
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16"), netip.MustParsePrefix("fd00:42::/48")},
	}}
	for _, b := range []string{"10.42.3.0/24", "10.42.9.0/24", "fd00:42:0:3::/64"} {
		l.Blocks = append(l.Blocks, netip.MustParsePrefix(b))
	}
	return l
}

func plan(t *testing.T, conf string, local *overlay.Local) (*planned, error) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv(overlay.DataDirEnv, dir)
	if local != nil {
		if err := local.Write(dir); err != nil {
			t.Fatal(err)
		}
	}
	r, err := cni.NewRequest(&cni.CmdArgs{StdinData: []byte(conf)}, mode.Config())
	if err != nil {
		return nil, err
	}
	steps, err := r.Plan()
	return &planned{steps}, err
}

// planned are the steps of a plan.
type planned struct{ steps []attach.Step }

func step[S attach.Step](p *planned) S {
	for _, s := range p.steps {
		if s, ok := s.(S); ok {
			return s
		}
	}
	var none S
	return none
}

func TestPlan(t *testing.T) {
	p, err := plan(t, `{"name": "blue", "type": "vxlan-overlay"}`, blue())
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, s := range p.steps {
		kinds = append(kinds, s.Kind())
	}
	if got := strings.Join(kinds, " "); got != "network lease gateway forward forwarding bridge veth firewall hairpin spoof" {
		t.Errorf("steps %s", got)
	}
	if n, gw := step[*attach.Network](p), step[*link.Gateway](p); n.Link != "overlay4097" || !gw.DefaultRoute || gw.NoDefault {
		t.Errorf("network %+v, gateway %+v", n, gw)
	}
	conf := step[*ipam.Lease](p).Conf
	var got []string
	for _, set := range conf.Ranges {
		got = append(got, set.String())
	}
	if s := strings.Join(got, " "); s != "10.42.3.2-10.42.3.254, 10.42.9.2-10.42.9.254 fd00:42:0:3::2-fd00:42:0:3:ffff:ffff:ffff:ffff" {
		t.Errorf("ranges %s", s)
	}
	if len(conf.Routes) != 2 || conf.Routes[0].Dst.String() != "10.42.0.0/16" || conf.Routes[1].Dst.String() != "fd00:42::/48" {
		t.Errorf("routes %v", conf.Routes)
	}
	p, err = plan(t, `{"name": "blue", "ipspoofchk": false}`, blue())
	if s := step[*firewall.Spoof](p); err != nil || s == nil || !s.Loose || !s.Echo || !step[*link.Veth](p).Reflect {
		t.Errorf("ipspoofchk off: %v, %v", p, err)
	}
	sticky := blue()
	sticky.Network.Sticky = "name"
	if p, err = plan(t, `{"name": "blue"}`, sticky); err != nil || step[*ipam.Lease](p).Conf.Sticky != "name" || conf.Sticky != "" {
		t.Errorf("sticky: %+v, %v", p, err)
	}
	internal := blue()
	internal.Network.Internal = true
	p, err = plan(t, `{"name": "blue"}`, internal)
	if err != nil {
		t.Fatal(err)
	}
	if gw := step[*link.Gateway](p); gw.DefaultRoute || !gw.NoDefault {
		t.Errorf("internal: %+v", gw)
	}
}

func TestRefused(t *testing.T) {
	for conf, want := range map[string]string{
		`{"name": "blue", "ipam": {"subnet": "10.1.0.0/16"}}`:        "ipam: ",
		`{"name": "blue", "ipam": {"type": "host-local"}}`:           "want none: the addresses are those of the block",
		`{"name": "blue", "bridge": "cni0"}`:                         `bridge: "\"cni0\""`,
		`{"name": "blue", "mtu": 1400}`:                              "berth network create --mtu",
		`{"name": "blue", "vlan": 7}`:                                "vlan: ",
		`{"name": "blue", "gatewayModeIPv6": "nat"}`:                 `gatewayModeIPv6: "nat": want none`,
		`{"name": "blue", "internal": true}`:                         "internal: true: want none",
		`{"name": "blue", "icc": false}`:                             "icc: false: want none",
		`{"name": "blue", "hairpinMode": true, "promiscMode": true}`: "hairpinMode",
		`{"name": "blue", "ipMasqBackend": "pf"}`:                    "ipMasqBackend",
	} {
		if _, err := plan(t, conf, blue()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", conf, err, want)
		}
	}
}

func TestNotYet(t *testing.T) {
	refused, bare, half := blue(), blue(), blue()
	refused.Refused = "the name is another host's"
	bare.Blocks = nil
	half.Blocks = half.Blocks[:2] // no IPv6
	for want, local := range map[string]*overlay.Local{
		"does not know it yet":             nil,
		"the name is another host's":       refused,
		"has no block of 10.42.0.0/16 yet": bare,
		"has no block of fd00:42::/48 yet": half,
	} {
		if _, err := plan(t, `{"name": "blue"}`, local); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add(`{"name": "blue", "vlan": 1, "mtu": "x", "ipam": {}}`)
	f.Fuzz(func(t *testing.T, conf string) { _, _ = plan(t, conf, blue()) }) // must not panic
}
