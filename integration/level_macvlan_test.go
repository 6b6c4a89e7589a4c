package integration

import (
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// TestLevelMacvlan has the keys of the reference's macvlan.
func TestLevelMacvlan(t *testing.T) {
	t.Parallel()
	const addresses = `"ipam": {"type": "host-local", "ranges": [[` + subnet + `], [` + subnet6 + `]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}`
	const inContainer = "ip -n c1 link add cable0 type veth peer name cable1\nip -n c1 link set cable0 up"
	on := func(more string) string { return `{"type": "macvlan"` + more + `, ` + addresses + `}` }
	for name, l := range map[string]level{
		"master":            {conf: on(`, "master": "uplink0"`)},
		"no master":         {conf: on("")},
		"private":           {conf: on(`, "mode": "private"`)},
		"vepa":              {conf: on(`, "mode": "vepa"`)},
		"passthru":          {conf: on(`, "mode": "passthru"`)},
		"mtu":               {conf: on(`, "mtu": 1400`)},
		"mac":               {conf: on(`, "mac": "` + givenMAC + `"`)},
		"CNI_ARGS MAC":      {conf: on(""), opts: []sandbox.Option{sandbox.Arg("IgnoreUnknown", "1"), sandbox.Arg("MAC", givenMAC)}},
		"runtimeConfig.mac": {conf: on(`, "capabilities": {"mac": true}`), opts: []sandbox.Option{sandbox.Cap("mac", givenMAC)}},
		"bcqueuelen":        {conf: on(`, "bcqueuelen": 500`)},
		"linkInContainer":   {conf: on(`, "linkInContainer": true, "master": "cable0"`), before: inContainer},
		"layer 2":           {conf: `{"type": "macvlan"}`},
		"layer 2, 1.1.0":    {conf: `{"type": "macvlan"}`, version: "1.1.0", differs: map[string]string{"result": interfaces}},
		"dns":               {conf: on(`, "dns": {"nameservers": ["192.0.2.53"]}`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(l.conf, "ipam") {
				l.differs = map[string]string{"accept_dad": noDAD}
			}
			l.test(t)
		})
	}
}
