package conflist

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/macvlan"
)

// option is a word of --opt. Docker's own words are taken, so that a command line that
// worked there works here.
type option struct {
	words   []string // ours first
	drivers []string
	want    string // empty: it is not shown
	set     func(*Conf, string) error
}

// options are all that there are.
func options() []option {
	all, bridged := []string{Bridge, Macvlan, IPVlan}, []string{Bridge}
	onMaster, ofMacvlan, ofIPVlan := []string{Macvlan, IPVlan}, []string{Macvlan}, []string{IPVlan}
	return []option{
		{[]string{"mtu", "com.docker.network.driver.mtu"}, all, "BYTES", number(func(c *Conf) *int { return &c.MTU }, 68, 65535)},
		{[]string{"mode"}, bridged, "bridge|routed", word(func(c *Conf) *string { return &c.Mode }, "bridge", "routed")},
		{[]string{"firewallBackend"}, bridged, "auto|nftables|iptables", word(func(c *Conf) *string { return &c.FirewallBackend }, "auto", "nftables", "iptables")},
		{[]string{"bridge", "com.docker.network.bridge.name"}, bridged, "NAME", ifName(func(c *Conf) *string { return &c.Bridge })},
		{[]string{"icc", "com.docker.network.bridge.enable_icc"}, bridged, "true|false", func(c *Conf, s string) error {
			on := true
			err := boolean(func(*Conf) *bool { return &on })(c, s)
			if c.ICC = nil; !on {
				c.ICC = &on
			}
			return err
		}},
		{[]string{"ipMasq", "com.docker.network.bridge.enable_ip_masquerade"}, bridged, "true|false", func(c *Conf, s string) error {
			c.IPMasq = new(bool)
			return boolean(func(c *Conf) *bool { return c.IPMasq })(c, s)
		}},
		{[]string{"gatewayModeIPv4", "com.docker.network.bridge.gateway_mode_ipv4"}, bridged, modeWords, mode(func(c *Conf) *firewall.GatewayMode { return &c.GatewayModeIPv4 })},
		{[]string{"gatewayModeIPv6", "com.docker.network.bridge.gateway_mode_ipv6"}, bridged, modeWords, mode(func(c *Conf) *firewall.GatewayMode { return &c.GatewayModeIPv6 })},
		{[]string{"hostBindingIPv4", "com.docker.network.bridge.host_binding_ipv4"}, bridged, "ADDRESS", func(c *Conf, s string) error {
			a, err := netip.ParseAddr(s)
			if c.HostBindingIPv4 = s; err != nil || !a.Is4() || a.IsMulticast() {
				return fmt.Errorf("want an IPv4 address of this host")
			}
			return nil
		}},
		{[]string{"com.docker.network.bridge.inhibit_ipv4"}, bridged, "", off("want --internal --gateway-mode-ipv4 isolated, which has no address on the bridge")},
		{[]string{"com.docker.network.container_iface_prefix"}, bridged, "", func(*Conf, string) error {
			return fmt.Errorf("the runtime names interfaces; 'berth network connect --driver-opt %s=NAME' takes another name", IfNameOption)
		}},
		{[]string{"hairpinMode"}, bridged, "true|false", boolean(func(c *Conf) *bool { return &c.HairpinMode })},
		{[]string{"promiscMode"}, bridged, "true|false", boolean(func(c *Conf) *bool { return &c.PromiscMode })},
		{[]string{"portIsolation"}, bridged, "true|false", boolean(func(c *Conf) *bool { return &c.PortIsolation })},
		{[]string{"macspoofchk"}, bridged, "true|false", boolean(func(c *Conf) *bool { return &c.MACSpoofCheck })},
		{[]string{"ipspoofchk"}, bridged, "true|false", boolean(func(c *Conf) *bool { return &c.IPSpoofCheck })},
		{[]string{"forceAddress"}, bridged, "true|false", boolean(func(c *Conf) *bool { return &c.ForceAddress })},
		{[]string{"vlan"}, bridged, "NUMBER", number(func(c *Conf) *int { return &c.VLAN }, 0, link.MaxVLAN)},
		{[]string{"parent", "master"}, onMaster, "INTERFACE", ifName(func(c *Conf) *string { return &c.Master })},
		{[]string{"macvlan_mode", "mode"}, ofMacvlan, "bridge|private|vepa|passthru", func(c *Conf, s string) error {
			if c.Mode = s; macvlan.ModeNumber(s) == 0 {
				return fmt.Errorf("want bridge, private, vepa or passthru")
			}
			return nil
		}},
		{[]string{"ipvlan_mode", "mode"}, ofIPVlan, "l2|l3|l3s", word(func(c *Conf) *string { return &c.Mode }, "l2", "l3", "l3s")},
		{[]string{"ipvlan_flag", "flag"}, ofIPVlan, "bridge|private|vepa", word(func(c *Conf) *string { return &c.Flag }, "bridge", "private", "vepa")},
		{[]string{"hostShim"}, ofMacvlan, "true|false", boolean(func(c *Conf) *bool { return &c.HostShim })},
		{[]string{"linkInContainer"}, onMaster, "true|false", boolean(func(c *Conf) *bool { return &c.LinkInContainer })},
		{[]string{"bcqueuelen"}, ofMacvlan, "NUMBER", number(func(c *Conf) *int { return &c.BcQueueLen }, 0, 1<<31-1)},
		{[]string{"enabledad"}, all, "true|false", boolean(func(c *Conf) *bool { return &c.EnableDAD })},
		{[]string{"acceptRA"}, all, "true|false", boolean(func(c *Conf) *bool { return &c.AcceptRA })},
	}
}

// IfNameOption is Docker's option of connecting that names the interface.
const IfNameOption = "com.docker.network.endpoint.ifname"

// off is an option that can be false only.
func off(why string) func(*Conf, string) error {
	return func(c *Conf, s string) error {
		on := false
		if err := boolean(func(*Conf) *bool { return &on })(c, s); err != nil || !on {
			return err
		}
		return fmt.Errorf("%s", why)
	}
}

func boolean(of func(*Conf) *bool) func(*Conf, string) error {
	return func(c *Conf, s string) error {
		on, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("want true or false")
		}
		*of(c) = on
		return nil
	}
}

func number(of func(*Conf) *int, least, most int) func(*Conf, string) error {
	return func(c *Conf, s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < least || n > most {
			return fmt.Errorf("want a number, %d to %d", least, most)
		}
		*of(c) = n
		return nil
	}
}

func word(of func(*Conf) *string, words ...string) func(*Conf, string) error {
	return func(c *Conf, s string) error {
		if !slices.Contains(words, s) {
			return fmt.Errorf("want %s", strings.Join(words, ", "))
		}
		*of(c) = s
		return nil
	}
}

const modeWords = "nat|nat-unprotected|routed|isolated"

func mode(of func(*Conf) *firewall.GatewayMode) func(*Conf, string) error {
	return func(c *Conf, s string) (err error) {
		*of(c), err = firewall.ParseGatewayMode(s)
		return err
	}
}

func ifName(of func(*Conf) *string) func(*Conf, string) error {
	return func(c *Conf, s string) error {
		*of(c) = s
		return cni.ValidIfName(s)
	}
}

// OptionWords are the words of --opt for a driver, each with what it wants, for the
// help and for messages.
func OptionWords(driver string) []string {
	var all []string
	for _, o := range options() {
		if slices.Contains(o.drivers, driver) && o.want != "" {
			all = append(all, o.words[0]+"="+o.want)
		}
	}
	return all
}

// setOptions sets the pairs of --opt.
func (p *plan) setOptions() {
	given := map[string]string{}
	for _, pair := range p.Options {
		key, text, ok := strings.Cut(pair, "=")
		i := slices.IndexFunc(options(), func(o option) bool {
			return slices.Contains(o.words, key) && slices.Contains(o.drivers, p.Driver)
		})
		switch {
		case !ok:
			p.refuse("--opt: %s: want key=value", pair)
		case i < 0:
			p.refuse("--opt: %s: %s network has no such option: want %s", key, article(p.Driver), strings.Join(OptionWords(p.Driver), ", "))
		default:
			o := options()[i]
			if before, twice := given[o.words[0]]; twice {
				p.refuse("--opt: %s: is given twice, and as %s before", pair, before)
				continue
			}
			given[o.words[0]] = pair
			if err := o.set(&p.conf, text); err != nil {
				p.refuse("--opt: %s: %w", pair, err)
			}
		}
	}
}

func (p *plan) checkMTU(subnets []netip.Prefix) {
	has6 := slices.ContainsFunc(subnets, func(s netip.Prefix) bool { return s.Addr().Is6() })
	if p.conf.MTU != 0 && p.conf.MTU < link.MinMTU6 && has6 {
		p.refuse("--mtu: %d: want at least %d bytes for IPv6", p.conf.MTU, link.MinMTU6)
	}
}
