package main

import (
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/macvlan"
	"github.com/berth-cni/berth/pkg/link/parent"
	"github.com/berth-cni/berth/pkg/nstest"
)

// plan makes the plan of a configuration, or says what is wrong with it.
func plan(conf, netns string) ([]attach.Step, error) {
	r, err := cni.NewRequest(&cni.CmdArgs{StdinData: []byte(conf), Netns: netns}, &config{})
	if err != nil {
		return nil, err
	}
	return r.Plan()
}

// named is a configuration with a name, which all have.
func named(conf string) string { return `{"name": "lan", ` + strings.TrimPrefix(conf, "{") }

// uplink gives the test's host a device with a default route.
func uplink(t *testing.T) {
	t.Helper()
	nstest.Host(t)
	for _, cmd := range []string{"ip link add up0 type veth peer name up1", "ip link set up0 up mtu 1400", "ip link set up1 up",
		"ip address add 192.0.2.1/24 dev up0", "ip route add default via 192.0.2.2"} {
		f := strings.Fields(cmd)
		if err := nstest.Run(f[0], f[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	for range 1000 { // the kernel tells of the carrier later
		if out, err := nstest.Output("ip", "-br", "link", "show", "type", "veth"); err != nil || strings.Count(out, " UP ") == 2 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestRefused(t *testing.T) {
	uplink(t)
	for conf, want := range map[string][]string{
		`{"master": "a/b"}`:                                      {`master: "a/b"`},
		`{"master": "averyveryverylongname"}`:                    {`master: "averyveryverylongname": want an interface name`, "15 characters"},
		`{"master": "nobody", "mode": "source"}`:                 {`master: "nobody": there is no such interface`, `mode: "source": want bridge, private, vepa or passthru`},
		`{"master": "nobody.7"}`:                                 {`master: "nobody.7"`, "neither this interface nor nobody"},
		`{"master": "nobody.4095"}`:                              {`master: "nobody.4095": there is no such interface`},
		`{"mtu": 1500}`:                                          {"mtu: 1500: want at most that of the master up0, 1400"},
		`{"mtu": -1}`:                                            {"mtu: -1"},
		`{"mtu": 1279, "ipam": {"subnet": "fd00::/64"}}`:         {"mtu: 1279: want at least 1280"},
		`{"mac": "01:00:00:00:00:01"}`:                           {`mac: "01:00:00:00:00:01"`, "unicast"},
		`{"hostShim": true}`:                                     {"hostShim: true: want an ipam section"},
		`{"hostShim": true, "mode": "private"}`:                  {"hostShim: true: want mode bridge"},
		`{"hostShim": true, "linkInContainer": true}`:            {"hostShim: true", "linkInContainer"},
		`{"internal": true, "isolate": true, "icc": false}`:      {"internal: true", "isolate: true", "icc: false", "private"},
		`{"ipam": {"subnet": "10.1.0.0/33"}}`:                    {"ipam.subnet", "10.1.0.0/33"},
		`{"linkInContainer": true, "ipam": {"subnet": "x"}}`:     {"ipam.subnet"},
		`{"master": "up0", "runtimeConfig": {"aliases": ["x"]}}`: {"runtimeConfig.aliases"},
	} {
		_, err := plan(named(conf), "")
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

func TestNoDefaultRoute(t *testing.T) {
	nstest.Host(t)
	if _, err := plan(named(`{"mode": "bridge"}`), ""); err == nil || !strings.Contains(err.Error(), `master: ""`) || !strings.Contains(err.Error(), "default route") {
		t.Errorf("got %v", err)
	}
}

func TestPlan(t *testing.T) {
	uplink(t)
	up, err := parent.Find("", "up0")
	if err != nil || up == nil {
		t.Fatal(err)
	}
	for conf, want := range map[string]struct {
		kinds string
		last  macvlan.Interface
		mac   string
	}{
		`{"ipam": {}}`: {"network gateway macvlan", macvlan.Interface{Master: "up0", Mode: "bridge", AcceptRA: true}, ""},
		`{"mode": "", "mtu": 1300, "bcqueuelen": 7, "mac": "02-00-00-00-00-01", "enabledad": true}`: {"network gateway macvlan",
			macvlan.Interface{Master: "up0", Mode: "bridge", MTU: 1300, QueueLen: 7, DAD: true, AcceptRA: true}, "02:00:00:00:00:01"},
		`{"master": "up1", "mode": "private"}`:                        {"network gateway macvlan", macvlan.Interface{Master: "up1", Mode: "private", AcceptRA: true}, ""},
		`{"mode": "passthru"}`:                                        {"network gateway macvlan", macvlan.Interface{Master: "up0", Mode: "passthru", AcceptRA: true}, up.MAC},
		`{"master": "up0.10"}`:                                        {"network gateway subinterface macvlan", macvlan.Interface{Master: "up0.10", Mode: "bridge", AcceptRA: true}, ""},
		`{"hostShim": true, "ipam": {"subnet": "192.0.2.0/24"}}`:      {"network lease gateway host-shim macvlan", macvlan.Interface{Master: "up0", Mode: "bridge"}, ""},
		`{"acceptRA": false}`:                                         {"network gateway macvlan", macvlan.Interface{Master: "up0", Mode: "bridge"}, ""},
		`{"acceptRA": true, "ipam": {"subnet": "192.0.2.0/24"}}`:      {"network lease gateway macvlan", macvlan.Interface{Master: "up0", Mode: "bridge", AcceptRA: true}, ""},
		`{"ipam": {"type": "host-local"}}`:                            {"network macvlan ipam gateway addresses", macvlan.Interface{Master: "up0", Mode: "bridge"}, ""},
		`{"hostShim": true, "ipam": {"type": "dhcp"}}`:                {"network host-shim macvlan ipam gateway addresses", macvlan.Interface{Master: "up0", Mode: "bridge"}, ""},
		`{"master": "x.10", "linkInContainer": true, "mode": "vepa"}`: {"network gateway macvlan", macvlan.Interface{Master: "x.10", Mode: "vepa", Inside: true, AcceptRA: true}, ""},
	} {
		p, err := plan(named(conf), "")
		if err != nil {
			t.Errorf("%s: %v", conf, err)
			continue
		}
		var kinds []string
		mac := ""
		var last macvlan.Interface
		for _, s := range p {
			kinds = append(kinds, s.Kind())
			switch s := s.(type) {
			case *link.Gateway:
				mac = s.MAC
			case *macvlan.Interface:
				last = *s
			}
		}
		network := p[0].(*attach.Network)
		if got := strings.Join(kinds, " "); got != want.kinds || last != want.last || mac != want.mac || network.Link != last.Master {
			t.Errorf("%s: %s %+v, MAC %q, link %s; want %+v", conf, got, last, mac, network.Link, want)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add(`{"name": "n", "master": "a.1", "mode": "vepa", "mtu": 70, "hostShim": true, "ipam": {"ranges": [[{"subnet": "10.0.0.0/8"}]]}}`)
	f.Fuzz(func(t *testing.T, conf string) { _, _ = plan(conf, "") }) // must not panic
}
