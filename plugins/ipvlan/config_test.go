package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/ipvlan"
	"github.com/berth-cni/berth/pkg/link/parent"
	"github.com/berth-cni/berth/pkg/nstest"
)

// plan makes the plan of a configuration of a network, or says what is wrong with it.
func plan(conf, netns string) ([]attach.Step, error) {
	conf = `{"name": "lan", ` + strings.TrimPrefix(conf, "{")
	r, err := cni.NewRequest(&cni.CmdArgs{StdinData: []byte(conf), Netns: netns}, &config{})
	if err != nil {
		return nil, err
	}
	return r.Plan()
}

// uplink gives the test's host a device with a default route.
func uplink(t *testing.T) *parent.Interface {
	t.Helper()
	nstest.Host(t)
	for _, cmd := range []string{"ip link add up0 type veth peer name up1", "ip link set up0 up mtu 1400", "ip link set up1 up",
		"ip address add 192.0.2.1/24 dev up0", "ip route add default via 192.0.2.2"} {
		f := strings.Fields(cmd)
		if err := nstest.Run(f[0], f[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	for tries := 0; ; tries++ { // the kernel tells of the carrier later
		out, err := nstest.Output("ip", "-br", "link", "show", "type", "veth")
		if err == nil && strings.Count(out, " UP ") == 2 {
			break
		}
		if tries == 3000 {
			t.Fatalf("no carrier: %s, %v", out, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	up, err := parent.Find("", "up0")
	if err != nil || up == nil {
		t.Fatal(up, err)
	}
	return up
}

func TestRefused(t *testing.T) {
	uplink(t)
	for conf, want := range map[string][]string{
		`{"master": "a/b"}`:                                      {`master: "a/b"`},
		`{"master": "averyveryverylongname"}`:                    {`master: "averyveryverylongname": want an interface name`, "15 characters"},
		`{"master": "nobody", "mode": "L2"}`:                     {`master: "nobody": there is no such interface`, `mode: "L2": want l2, l3 or l3s`},
		`{"flag": "passthru"}`:                                   {`flag: "passthru": want bridge, private or vepa`},
		`{"master": "nobody.7"}`:                                 {`master: "nobody.7"`, "neither this interface nor nobody"},
		`{"mtu": 1500}`:                                          {"mtu: 1500: want at most that of the master up0, 1400"},
		`{"mtu": 1279, "ipam": {"subnet": "fd00::/64"}}`:         {"mtu: 1279: want at least 1280"},
		`{"runtimeConfig": {"mac": "02:00:00:00:00:01"}}`:        {`runtimeConfig.mac: "02:00:00:00:00:01": an ipvlan has the MAC of its master`},
		`{"args": {"cni": {"mac": "02:00:00:00:00:01"}}}`:        {`args.cni.mac: "02:00:00:00:00:01"`},
		`{"internal": true, "isolate": true, "icc": false}`:      {"internal: true", "isolate: true", "icc: false", "flag private"},
		`{"linkInContainer": true, "ipam": {"subnet": "x"}}`:     {"ipam.subnet"},
		`{"master": "up0", "runtimeConfig": {"aliases": ["x"]}}`: {"runtimeConfig.aliases"},
	} {
		_, err := plan(conf, "")
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

func TestPlan(t *testing.T) {
	up := uplink(t)
	for conf, want := range map[string]struct {
		kinds  string
		last   ipvlan.Interface
		shared string
	}{
		`{"ipam": {}}`: {"network gateway ipvlan", ipvlan.Interface{Master: "up0", Mode: "l2", Flag: "bridge", AcceptRA: true}, "l2 bridge"},
		`{"mode": "l3", "flag": "private", "mtu": 1300, "enabledad": true, "ipam": {"subnet": "192.0.2.0/24"}}`: {"network lease gateway ipvlan",
			ipvlan.Interface{Master: "up0", Mode: "l3", Flag: "private", MTU: 1300, DAD: true}, "l3 private"},
		`{"master": "up1", "mode": "l3s", "flag": "vepa"}`:          {"network gateway ipvlan", ipvlan.Interface{Master: "up1", Mode: "l3s", Flag: "vepa", AcceptRA: true}, "l3s vepa"},
		`{"master": "up0.10"}`:                                      {"network gateway subinterface ipvlan", ipvlan.Interface{Master: "up0.10", Mode: "l2", Flag: "bridge", AcceptRA: true}, "l2 bridge"},
		`{"ipam": {"type": "dhcp"}}`:                                {"network ipvlan ipam gateway addresses", ipvlan.Interface{Master: "up0", Mode: "l2", Flag: "bridge"}, "l2 bridge"},
		`{"master": "x.10", "linkInContainer": true, "mode": "l3"}`: {"network gateway ipvlan", ipvlan.Interface{Master: "x.10", Mode: "l3", Flag: "bridge", Inside: true, AcceptRA: true}, ""},
	} {
		p, err := plan(conf, "")
		if err != nil {
			t.Errorf("%s: %v", conf, err)
			continue
		}
		var kinds []string
		for _, s := range p {
			kinds = append(kinds, s.Kind())
			switch s := s.(type) {
			case *link.Gateway:
				if s.MAC != up.MAC && want.last.Master == "up0" || s.Isolated4 != ipvlan.Routes(want.last.Mode) || s.Isolated6 != s.Isolated4 {
					t.Errorf("%s: %+v", conf, s)
				}
			case *parent.Subinterface:
				if !s.SharedMAC {
					t.Errorf("%s: %+v", conf, s)
				}
			case *ipvlan.Interface:
				if *s != want.last {
					t.Errorf("%s: %+v, want %+v", conf, *s, want.last)
				}
			}
		}
		n := p[0].(*attach.Network)
		if got := strings.Join(kinds, " "); got != want.kinds || n.Link != want.last.Master || n.LinkMode != want.shared {
			t.Errorf("%s: %s, %+v; want %+v", conf, got, n, want)
		}
	}
}

// TestStatus: STATUS says what the kernel lacks, and nothing else does.
func TestStatus(t *testing.T) {
	uplink(t)
	made := nstest.Run("ip", "link", "add", "link", "up0", "name", "probe", "type", "ipvlan", "mode", "l2")
	err := (&config{}).Status(nil)
	if made == nil && err != nil || made != nil && (!errors.Is(err, parent.ErrNoKind) || !strings.HasPrefix(err.Error(), "this kernel has no ipvlan (CONFIG_IPVLAN)")) {
		t.Errorf("iproute2: %v, STATUS: %v", made, err)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add(`{"name": "n", "master": "a.1", "mode": "l3", "flag": "vepa", "mtu": 70, "ipam": {"ranges": [[{"subnet": "10.0.0.0/8"}]]}}`)
	f.Fuzz(func(t *testing.T, conf string) { _, _ = plan(conf, "") }) // must not panic
}
