package integration

import (
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

const (
	localRange = `"ipam": {"type": "host-local", "ranges": [[` + subnet + `], [` + subnet6 + `]], "routes": [{"dst": "198.51.100.0/24"}]}`
	onBridge   = `"type": "bridge"`
	givenMAC   = "02:aa:bb:cc:dd:01"
)

// bridged is a bridge's configuration with host-local's addresses.
func bridged(more string) string {
	return "{" + onBridge + more + ", " + localRange + "}"
}

// TestLevelBridge has every key of the reference's bridge.
func TestLevelBridge(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]level{
		"plain":                         {conf: bridged("")},
		"isGateway":                     {conf: bridged(`, "isGateway": true`)},
		"isDefaultGateway":              {conf: bridged(`, "isDefaultGateway": true`)},
		"forceAddress":                  {conf: bridged(`, "isGateway": true, "forceAddress": true`), before: "ip link add cni0 type bridge\nip addr add 10.88.0.9/16 dev cni0"},
		"not masqueraded":               {conf: bridged(`, "isDefaultGateway": true`), asks: 1},
		"ipMasq":                        {conf: bridged(`, "isDefaultGateway": true, "ipMasq": true`), asks: 10},
		"ipMasq by nftables":            {conf: bridged(`, "isDefaultGateway": true, "ipMasq": true, "ipMasqBackend": "nftables"`), asks: 10},
		"ipMasq by iptables":            {conf: bridged(`, "isDefaultGateway": true, "ipMasq": true, "ipMasqBackend": "iptables"`), asks: 10},
		"mtu":                           {conf: bridged(`, "isGateway": true, "mtu": 1400`)},
		"mtu above the uplink's":        {conf: bridged(`, "isGateway": true, "mtu": 9000`)},
		"hairpinMode":                   {conf: bridged(`, "hairpinMode": true`)},
		"promiscMode":                   {conf: bridged(`, "promiscMode": true`)},
		"portIsolation":                 {conf: bridged(`, "portIsolation": true`)},
		"macspoofchk":                   {conf: bridged(`, "isGateway": true, "macspoofchk": true`), spoofs: true},
		"no macspoofchk":                {conf: bridged(`, "isGateway": true`), spoofs: true},
		"enabledad":                     {conf: bridged(`, "isGateway": true, "enabledad": true`)},
		"layer 2":                       {conf: `{` + onBridge + `}`},
		"disableContainerInterface":     {conf: `{` + onBridge + `, "disableContainerInterface": true}`},
		"dns":                           {conf: bridged(`, "dns": {"nameservers": ["192.0.2.53"], "domain": "x.example", "search": ["x.example"], "options": ["ndots:2"]}`)},
		"args.cni.mac":                  {conf: bridged(`, "args": {"cni": {"mac": "` + givenMAC + `"}}`)},
		"CNI_ARGS MAC":                  {conf: bridged(""), opts: []sandbox.Option{sandbox.Arg("IgnoreUnknown", "1"), sandbox.Arg("MAC", givenMAC)}},
		"runtimeConfig.mac":             {conf: bridged(`, "capabilities": {"mac": true}, "args": {"cni": {"mac": "02:00:00:00:00:01"}}`), opts: []sandbox.Option{sandbox.Cap("mac", givenMAC)}},
		"static":                        {conf: `{` + onBridge + `, "isDefaultGateway": true, "ipam": {"type": "static", "addresses": [{"address": "10.88.0.7/16", "gateway": "10.88.0.1"}], "routes": [{"dst": "198.51.100.0/24", "mtu": 1300, "priority": 7}]}}`, differs: map[string]string{"accept_dad": noIPv6, "inside ip -4 route": routeMTU}},
		"static without a gateway":      {conf: `{` + onBridge + `, "isDefaultGateway": true, "ipam": {"type": "static", "addresses": [{"address": "10.88.0.7/16"}]}}`, differs: map[string]string{"accept_dad": noIPv6}},
		"a default route of the IPAM's": {conf: `{` + onBridge + `, "isDefaultGateway": true, "ipam": {"type": "host-local", "ranges": [[` + subnet + `]], "routes": [{"dst": "0.0.0.0/0", "gw": "10.88.0.254"}]}}`, differs: map[string]string{"accept_dad": noIPv6}},
		"IPv6 alone":                    {conf: `{` + onBridge + `, "isDefaultGateway": true, "ipam": {"type": "host-local", "ranges": [[` + subnet6 + `]]}}`},
		"no routes":                     {conf: `{` + onBridge + `, "isGateway": true, "ipam": {"type": "host-local", "subnet": "10.88.0.0/16", "gateway": "10.88.0.254"}}`, differs: map[string]string{"accept_dad": noIPv6}},
		"a route with a gateway":        {conf: `{` + onBridge + `, "ipam": {"type": "host-local", "subnet": "10.88.0.0/16", "routes": [{"dst": "198.51.100.0/24", "gw": "10.88.0.77"}]}}`, differs: map[string]string{"accept_dad": noIPv6}},
		"a subnet of 31":                {conf: `{` + onBridge + `, "isGateway": true, "ipam": {"type": "static", "addresses": [{"address": "10.88.0.2/31", "gateway": "10.88.0.3"}]}}`, differs: map[string]string{"accept_dad": noIPv6}},
		"ipam {}":                       {conf: `{` + onBridge + `, "ipam": {}}`},
		"ipam without a type":           {conf: `{` + onBridge + `, "ipam": {"type": ""}}`},
		"layer 2 with a gateway":        {conf: `{` + onBridge + `, "isDefaultGateway": true, "ipMasq": true}`},
		"an address":                    {conf: bridged(`, "isGateway": true, "capabilities": {"ips": true}`), opts: []sandbox.Option{sandbox.Cap("ips", []string{"10.88.0.77/16"})}},
		"args.cni.mac and MAC":          {conf: bridged(`, "args": {"cni": {"mac": "` + givenMAC + `"}}`), opts: []sandbox.Option{sandbox.Arg("IgnoreUnknown", "1"), sandbox.Arg("MAC", "02:00:00:00:00:01")}},
		"forceAddress, other":           {conf: bridged(`, "isGateway": true, "forceAddress": true`), before: "ip link add cni0 type bridge\nip addr add 10.99.0.9/16 dev cni0\nip addr add fd00:88::9/64 dev cni0 nodad"},
		"two gateways by force":         {conf: `{` + onBridge + `, "isGateway": true, "forceAddress": true, "ipam": {"type": "host-local", "ranges": [[` + subnet + `], [{"subnet": "10.87.0.0/16"}]]}}`, differs: map[string]string{"accept_dad": noIPv6, "host ip -4 addr show": bothGateways, "host ip -4 route": bothGateways}},
		"an ifName":                     {conf: bridged(`, "isGateway": true`), ifName: "net1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l.test(t)
		})
	}
}

// TestLevelBridgeThere has bridges that were there before.
func TestLevelBridgeThere(t *testing.T) {
	t.Parallel()
	const made = "ip link add cni0 type bridge\n"
	const port = "ip link add cable0 type veth peer name cable1\nip link set cable0 address 02:aa:00:00:00:77\nip link set cable0 up\nip link set cable0 master cni0\n"
	for name, before := range map[string]string{
		"down":                        made,
		"up":                          made + "ip link set cni0 up",
		"with a MAC":                  "ip link add cni0 address 02:aa:00:00:00:01 type bridge",
		"with a port":                 made + port,
		"with the gateway's address":  made + "ip addr add 10.88.0.1/16 dev cni0\nip link set cni0 up",
		"with both":                   made + port + "ip addr add 10.88.0.1/16 dev cni0\nip link set cni0 up",
		"with an mtu":                 made + "ip link set cni0 mtu 1400",
		"with an IPv6 address beside": made + "ip addr add fd00:99::1/64 dev cni0 nodad",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := level{before: before, conf: bridged(`, "isDefaultGateway": true`)}
			if name == "with an mtu" {
				l.differs = map[string]string{"interface": smallBridge}
			}
			l.test(t)
		})
	}
}

// TestLevelVersions has a result in every version.
func TestLevelVersions(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			l := level{version: v, conf: bridged(`, "isDefaultGateway": true`)}
			if v == "1.1.0" {
				l.differs = map[string]string{"result": interfaces}
			}
			l.test(t)
			l = level{version: v, conf: `{"type": "loopback"}`, ifName: "lo"}
			if v < "1.0.0" {
				l.differs = map[string]string{"result": families}
			}
			l.test(t)
		})
	}
}

// TestLevelVLAN needs a kernel with bridges that filter VLANs.
func TestLevelVLAN(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	if out, err := b.Output("ip", "link", "add", "probe0", "type", "bridge", "vlan_filtering", "1"); err != nil {
		t.Skipf("this kernel has no BRIDGE_VLAN_FILTERING: %s", out)
	}
	for name, more := range map[string]string{
		"vlan":                `, "vlan": 7`,
		"vlan of a gateway":   `, "vlan": 7, "isGateway": true`,
		"vlanTrunk":           `, "vlanTrunk": [{"minID": 5, "maxID": 7}, {"id": 9}]`,
		"both":                `, "vlan": 7, "vlanTrunk": [{"id": 9}]`,
		"preserveDefaultVlan": `, "vlan": 7, "preserveDefaultVlan": true`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := level{conf: bridged(more)}
			l.test(t)
		})
	}
}
