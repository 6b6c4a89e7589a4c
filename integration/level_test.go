package integration

import (
	"fmt"
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
	reflects = "what others translate for the container itself comes back to it with br_netfilter, too (docs/bridge.md)"
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
var everywhere = map[string]string{"accept_ra": noRA, "autoconf": noRA, "arp_notify": announce, "ndisc_notify": announce, "hairpin": reflects}

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
