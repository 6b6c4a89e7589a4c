package integration

import (
	"encoding/json"
	"regexp"
	"strings"

	"github.com/berth-cni/berth/integration/sandbox"
)

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
	portShown = regexp.MustCompile(`(isolated|learning|flood) (on|off)`)
	hairpin   = regexp.MustCompile(`hairpin (on|off)`)
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
			s.note("hairpin", "%q", hairpin.FindAllString(out, -1))
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
