package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/cni"
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

func plan(t *testing.T, conf string, local *overlay.Local) (*cni.Request, *cni.Plan, error) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv(overlay.DataDirEnv, dir)
	if local != nil {
		if err := local.Write(dir); err != nil {
			t.Fatal(err)
		}
	}
	r, err := cni.NewRequest(&cni.CmdArgs{StdinData: []byte(conf)}, &config{IsDefaultGateway: true, IPMasq: true})
	if err != nil {
		return r, nil, err
	}
	p, err := r.Plan()
	return r, p, err
}

func TestPlan(t *testing.T) {
	r, p, err := plan(t, `{"name": "blue", "type": "vxlan-overlay"}`, blue())
	if err != nil {
		t.Fatal(err)
	}
	if p.Network.Link != "overlay4097" || !p.DefaultRoute || p.Internal || len(p.Steps) != 4 {
		t.Errorf("plan %+v", p)
	}
	var got []string
	for _, set := range r.IPAM.Ranges {
		got = append(got, set.String())
	}
	if s := strings.Join(got, " "); s != "10.42.3.2-10.42.3.254, 10.42.9.2-10.42.9.254 fd00:42:0:3::2-fd00:42:0:3:ffff:ffff:ffff:ffff" {
		t.Errorf("ranges %s", s)
	}
	if len(r.IPAM.Routes) != 2 || r.IPAM.Routes[0].Dst.String() != "10.42.0.0/16" || r.IPAM.Routes[1].Dst.String() != "fd00:42::/48" {
		t.Errorf("routes %v", r.IPAM.Routes)
	}
	internal := blue()
	internal.Network.Internal = true
	if _, p, err = plan(t, `{"name": "blue"}`, internal); err != nil || p.DefaultRoute || !p.Internal {
		t.Errorf("internal: %+v, %v", p, err)
	}
}

func TestRefused(t *testing.T) {
	for conf, want := range map[string]string{
		`{"name": "blue", "ipam": {"subnet": "10.1.0.0/16"}}`:        "ipam: ",
		`{"name": "blue", "ipam": {"type": "host-local"}}`:           "want none: the addresses are those of the block",
		`{"name": "blue", "bridge": "cni0"}`:                         `bridge: "\"cni0\""`,
		`{"name": "blue", "mtu": 1400}`:                              "berth network create --mtu",
		`{"name": "blue", "vlan": 7}`:                                "vlan: ",
		`{"name": "blue", "internal": true}`:                         "internal: true: want none",
		`{"name": "blue", "icc": false}`:                             "icc: false: want none",
		`{"name": "blue", "hairpinMode": true, "promiscMode": true}`: "hairpinMode",
		`{"name": "blue", "ipMasqBackend": "pf"}`:                    "ipMasqBackend",
	} {
		if _, _, err := plan(t, conf, blue()); err == nil || !strings.Contains(err.Error(), want) {
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
		if _, _, err := plan(t, `{"name": "blue"}`, local); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add(`{"name": "blue", "vlan": 1, "mtu": "x", "ipam": {}}`)
	f.Fuzz(func(t *testing.T, conf string) { _, _, _ = plan(t, conf, blue()) }) // must not panic
}
