package integration

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// level is a configuration that the reference's plugins and ours run, each on a host of
// its own. What is seen then is the same, but for differs.
type level struct {
	before  string // commands on the host, with the container there, one a line
	version string // 1.0.0 if empty
	conf    string
	opts    []sandbox.Option
	ifName  string // eth0 if empty
	bridge  string // cni0 if empty
	after   string // commands after ADD
	asks    int    // how often to ask the outside, which says whom it sees; 0: not at all
	spoofs  bool   // does a frame from another MAC reach the host?
	// differs are the sights in which ours are other on purpose, with the reason.
	differs map[string]string
}

// Why ours are other.
const (
	noRA     = "a neighbour's router advertisements stay out (docs/bridge.md, acceptRA)"
	announce = "ours announces the addresses itself, when they are usable"
)

const (
	noDAD        = "nobody else has the address on a network of the host's own; enabledad asks for it (docs/macvlan.md)"
	noIPv6       = "there is no IPv6 address to detect another's of"
	interfaces   = "SPEC 1.1.0 has the mtu of an interface"
	families     = "results before 1.0.0 have the family of an address"
	smallBridge  = "a bridge drops what is larger than its mtu (docs/bridge.md)"
	bothGateways = "the reference's second gateway takes the first one's place"
	routeMTU     = "the reference's routes lose their mtu"
)

// everywhere is what differs in every container with an interface of its own.
var everywhere = map[string]string{"accept_ra": noRA, "autoconf": noRA, "arp_notify": announce, "ndisc_notify": announce}

// sights are what was seen, in order.
type sights struct{ names, values []string }

func (s *sights) note(name, format string, args ...any) {
	s.names = append(s.names, name)
	s.values = append(s.values, fmt.Sprintf(format, args...))
}

// level runs the case with the reference's plugins, with ours, and with ours and the
// built-in IPAM in place of host-local.
func (l *level) test(t *testing.T) {
	theirs := l.look(t, l.conf, false)
	l.compare(t, "ours", theirs, l.look(t, l.conf, true))
	if built := strings.Replace(l.conf, `"host-local"`, `"berth-ipam"`, 1); built != l.conf {
		l.compare(t, "with berth-ipam", theirs, l.look(t, built, true))
	}
}

func (l *level) compare(t *testing.T, who string, theirs, ours *sights) {
	t.Helper()
	for i, name := range theirs.names {
		if i >= len(ours.names) || ours.names[i] != name {
			t.Fatalf("%s: seen %v, want %v", who, ours.names, theirs.names)
		}
		why := l.differs[name]
		if _, ok := everywhere[name]; ok && why == "" {
			continue
		}
		if same := theirs.values[i] == ours.values[i]; same == (why != "") {
			t.Errorf("%s: the reference:\n%s\n%s:\n%s\n%s", name, theirs.values[i], who, ours.values[i], why)
		}
	}
}

// look attaches a container, and detaches it. Ours leaves nothing.
func (l *level) look(t *testing.T, conf string, ours bool) *sights {
	t.Helper()
	b := newBed(t)
	dirs := []string{b.ref}
	if ours {
		dirs = []string{b.bin, b.ref}
	}
	v, ifName, bridge := or(l.version, "1.0.0"), or(l.ifName, "eth0"), or(l.bridge, "cni0")
	n, err := b.Network(conflist(v, conf), dirs...)
	must(t, err)
	opts := append([]sandbox.Option{sandbox.IfName(ifName)}, l.opts...)
	c := b.container("c1")
	must(t, b.Script(l.before))
	mac := b.mac(bridge)
	s := &sights{}
	text, err := n.AddJSON(c, opts...)
	must(t, err)
	must(t, b.Script(l.after))
	s.note("result", "%s", leveled(text))
	s.note("MACs of the result are those of the interfaces", "%v", b.macsHold(c, text))
	b.lookInside(s, c, ifName)
	b.lookOutside(s, bridge)
	s.note("the MAC of a bridge that was there stays", "%v", mac == "" || mac == b.mac(bridge))
	if l.asks > 0 {
		b.lookBeyond(s, c, l.asks)
	}
	if v >= "0.4.0" {
		s.note("CHECK", "%v", n.Check(c, opts...) == nil)
	}
	if l.spoofs {
		b.lookSpoofed(s, c)
	}
	if v >= "1.1.0" {
		s.note("STATUS", "%v", n.Status() == nil)
	}
	if err := n.Del(c, opts...); err != nil {
		s.note("DEL", "%v", err)
	}
	if ours {
		if out, err := c.Output("ip", "link", "show", "dev", ifName); err == nil && ifName != "lo" {
			t.Errorf("DEL leaves %s", out)
		}
		b.nothingOf()
	}
	return s
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

// mac is that of an interface of the host; empty when it is not there.
func (b *bed) mac(name string) string {
	out, _ := b.Output("cat", "/sys/class/net/"+name+"/address")
	if strings.Contains(out, "No such file") {
		return ""
	}
	return strings.TrimSpace(out)
}

// macsHold tells whether each interface of the result has the MAC that the result says.
func (b *bed) macsHold(c *sandbox.Container, text string) bool {
	r, _ := parse(b.t, text)
	for _, i := range r.Interfaces {
		show := []string{"-o", "link", "show", "dev", i.Name}
		out, err := b.Output("ip", show...)
		if i.Sandbox != "" {
			out, err = c.Output("ip", show...)
		}
		if err != nil || !strings.Contains(out, " "+i.Mac+" ") {
			b.t.Logf("the result says %s of %s, which is %s %v", i.Mac, i.Name, out, err)
			return false
		}
	}
	return true
}

var (
	linkShown = regexp.MustCompile(`[<,](?:UP|PROMISC)\b|\bmtu \d+ q|(?:macvlan|vlan|bridge) |mode (?:bridge|vepa|private|passthru)|bcqueuelen \d+|vlan_filtering \d|link/ether 02:aa:\S+`)
	portShown = regexp.MustCompile(`(hairpin|isolated|learning|flood) (on|off)`)
)

// lookInside notes what the container has.
func (b *bed) lookInside(s *sights, c *sandbox.Container, ifName string) {
	b.t.Helper()
	out, err := c.Output("ip", "-o", "-d", "link", "show", "dev", ifName)
	must(b.t, err)
	s.note("interface", "%q", linkShown.FindAllString(out, -1))
	for _, args := range []string{"-4 addr show dev " + ifName, "-6 addr show scope global dev " + ifName, "-4 route", "-6 route"} {
		out, err := c.Output("ip", append([]string{"-o"}, strings.Fields(args)...)...)
		must(b.t, err)
		s.note("inside ip "+args, "%s", leveled(out))
	}
	for _, name := range []string{"ipv4/%s/arp_notify", "ipv6/%s/ndisc_notify", "ipv6/%s/accept_dad", "ipv6/%s/accept_ra", "ipv6/%s/autoconf", "ipv6/%s/disable_ipv6"} {
		family, key, _ := strings.Cut(name, "/%s/")
		out, err := c.Output("cat", "/proc/sys/net/"+family+"/conf/"+ifName+"/"+key)
		must(b.t, err)
		s.note(key, "%s", strings.TrimSpace(out))
	}
}

// lookOutside notes what the host has. A bridge that is not there is like another.
func (b *bed) lookOutside(s *sights, bridge string) {
	b.t.Helper()
	out, _ := b.Output("ip", "-o", "-d", "link", "show", "dev", bridge)
	s.note("bridge", "%q", linkShown.FindAllString(out, -1))
	for _, args := range []string{"-4 addr show", "-6 addr show scope global", "-4 route", "-6 route"} {
		out, err := b.Output("ip", append([]string{"-o"}, strings.Fields(args)...)...)
		must(b.t, err)
		s.note("host ip "+args, "%s", leveled(out))
	}
	for _, args := range []string{"-d link", "vlan show"} {
		out, err := b.Output("bridge", strings.Fields(args)...)
		must(b.t, err)
		if args == "-d link" {
			out = strings.Join(portShown.FindAllString(out, -1), " ")
		}
		s.note("bridge "+args, "%s", leveled(out))
	}
	for _, name := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		out, err := b.Output("cat", "/proc/sys/"+name)
		must(b.t, err)
		s.note(name, "%s", strings.TrimSpace(out))
	}
}

// lookBeyond notes whom the outside sees, if anybody. It takes some tries: an IPv6 address
// of the reference's bridge is tentative for a second or two.
func (b *bed) lookBeyond(s *sights, c *sandbox.Container, tries int) {
	b.t.Helper()
	serve(b.t, b.outside, ":80")
	for _, address := range []string{sandbox.OutsideAddr4 + ":80", "[" + sandbox.OutsideAddr6 + "]:80"} {
		seen, err := c.Ask(address)
		for i := 1; i < tries && err != nil; i++ {
			seen, err = c.Ask(address)
		}
		s.note("seen by "+address, "%q %v", seen, err == nil)
	}
}

// lookSpoofed notes whether the host answers the container, and then a frame of it that
// has another MAC.
func (b *bed) lookSpoofed(s *sights, c *sandbox.Container) {
	b.t.Helper()
	stop, err := b.Serve("10.88.0.1:80")
	must(b.t, err)
	defer stop()
	_, err = c.Ask("10.88.0.1:80")
	s.note("the host answers", "%v", err == nil)
	for _, args := range []string{"link set eth0 address 02:00:00:00:00:99", "neigh flush dev eth0"} {
		_, err := c.Output("ip", strings.Fields(args)...)
		must(b.t, err)
	}
	_, err = c.Ask("10.88.0.1:80")
	s.note("the host answers another MAC", "%v", err == nil)
}

// nothingOf fails the test if a container of the network has left a port, a lease, or an
// element or rule of the firewall.
func (b *bed) nothingOf() {
	b.t.Helper()
	out, err := b.Output("sh", "-c", "bridge link; ls /var/lib/cni/networks/demo; nft list ruleset; iptables-legacy-save")
	must(b.t, err)
	if left := regexp.MustCompile(`10\.88\.\d+\.([2-9]|1\d)\b|veth\S*|\S*c1\S*`).FindAllString(out, -1); left != nil {
		b.t.Errorf("it leaves %q in %s", left, out)
	}
}

var unlevel = []*regexp.Regexp{
	regexp.MustCompile(`(veth|fe)[0-9a-z]{8,}`), regexp.MustCompile(`\b\d+: |@if\d+|if\d+`),
	regexp.MustCompile(` (tentative|nodad|linkdown|dadfailed)`), regexp.MustCompile(`(valid|preferred)_lft \S+`),
	regexp.MustCompile(`[\\\t\n ]+`),
}

// linkLocal are lines about the addresses that the kernel gives, a second or two late.
var linkLocal = regexp.MustCompile(`(?m)^.*\bfe80::.*\n?`)

// notGiven are MACs that no case gives.
var notGiven = regexp.MustCompile(`\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b`)

// leveled takes out what differs between two runs of one program.
func leveled(text string) string {
	var v any
	if json.Unmarshal([]byte(text), &v) == nil {
		data, _ := json.Marshal(v)
		text = string(data)
	}
	text = linkLocal.ReplaceAllString(text, "")
	text = notGiven.ReplaceAllStringFunc(text, func(mac string) string {
		if strings.HasPrefix(mac, "02:aa:") {
			return mac
		}
		return "MAC"
	})
	for _, re := range unlevel {
		text = re.ReplaceAllString(text, " ")
	}
	return strings.TrimSpace(text)
}

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
