package conflist

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/ipam"
	"github.com/berth-cni/berth/pkg/overlay"
)

// Spec is what a person asks for: a network of one host. Zero values are Docker's
// defaults.
type Spec struct {
	Name, Driver string // [Bridge], [Macvlan], [IPVlan] or [None]
	Subnets      []netip.Prefix
	Gateways     []netip.Addr
	IPRanges     []netip.Prefix
	Aux          []string // NAME=ADDRESS
	IPv4         *bool    // an IPv4 subnet, if none is in Subnets, or none at all; nil: if there is no subnet at all
	IPv6         bool     // an IPv6 subnet, if none is in Subnets
	Internal     bool
	Isolate      *bool // nil: a bridge's, unless it is internal
	NoICC        bool
	NoNames      bool
	Options      []string // key=value
	Labels       map[string]string
	Sticky       string       // by which name addresses are kept: name, pod, or empty for none
	DNS          []netip.Addr // asked for what is not here, in place of the host's
}

// Known is what a new network has to live with on this host.
type Known struct {
	Networks []string          // names that are taken
	Links    map[string]string // bridge -> its network
	Taken    []Taken
	Pools    []Pool
	Random   io.Reader
	Now      time.Time
	// NoSpoofCheck is why the kernel cannot hold containers to their own addresses; nil: it
	// can.
	NoSpoofCheck error
	// NoIPVlan is why the kernel has no ipvlans; nil: it has.
	NoIPVlan error
	// Exists tells whether the host has an interface, and whether it is a bridge.
	Exists func(name string) (there, bridge bool, err error)
}

// Conflist is a network's configuration, as it is written.
type Conflist struct {
	Version  string   `json:"cniVersion"` // what runtimes that know no cniVersions speak
	Versions []string `json:"cniVersions"`
	Name     string   `json:"name"`
	Mark     Mark     `json:"berth"`
	Plugins  []Conf   `json:"plugins"`
}

// JSON is the file.
func (c *Conflist) JSON() ([]byte, error) {
	data, err := json.MarshalIndent(c, "", "  ")
	return append(data, '\n'), err
}

// Predefined are the names that no network can be made with: they mean something else,
// with Docker and here.
func Predefined(name string) bool {
	return slices.Contains([]string{"bridge", "host", "none", "default"}, name) || strings.HasPrefix(name, "container:")
}

// ErrInTheWay: it is not what is asked for that is wrong, but something of this host has a part
// of it already.
var ErrInTheWay = errors.New("is in the way")

type inTheWay struct{ error }

func (inTheWay) Is(target error) bool { return target == ErrInTheWay }

// plan is a Spec on its way to a conflist.
type plan struct {
	*Spec
	host *Known
	conf Conf
	mark Mark

	subnets []netip.Prefix
	ranges  []Range // of subnets, in their order
	errs    []error
}

func (p *plan) refuse(format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf(format, args...))
}

// conflict is refuse for what somebody else has.
func (p *plan) conflict(format string, args ...any) {
	p.errs = append(p.errs, inTheWay{fmt.Errorf(format, args...)})
}

// Plan turns what is asked for into a conflist. The error has everything that is in its way,
// each with the flag, the value and what is allowed; it is [ErrInTheWay] when one of them
// is about what others have.
func (s *Spec) Plan(host *Known) (*Conflist, error) {
	p := &plan{Spec: s, host: host, conf: Conf{Type: s.Driver}, mark: Mark{Created: host.Now.UTC().Truncate(time.Second), Driver: s.Driver, Labels: s.Labels}}
	p.checkName()
	if s.Driver == None {
		return p.conflist()
	}
	switch s.Driver {
	case Bridge:
		p.bridge()
	case Macvlan:
		p.macvlan()
	case IPVlan:
		p.ipvlan()
	}
	p.findSubnets()
	p.checkMTU(p.subnets)
	p.findRanges()
	if s.Driver == Bridge {
		p.gatewayModes()
	}
	p.checkTaken()
	p.dns()
	if len(p.errs) == 0 {
		p.addresses()
	}
	return p.conflist()
}

// conflist is what has been planned, unless something is wrong with it.
func (p *plan) conflist() (*Conflist, error) {
	if len(p.errs) > 0 {
		return nil, errors.Join(p.errs...)
	}
	return &Conflist{"1.0.0", []string{"1.0.0", "1.1.0"}, p.Name, p.mark, []Conf{p.conf}}, nil
}

func (p *plan) checkName() {
	switch err := overlay.ValidName(p.Name); {
	case Predefined(p.Name) && (p.Name != Bridge || p.Driver != Bridge): // that one is made on request
		p.refuse("name: %s: is predefined: want another", p.Name)
	case err != nil:
		p.refuse("name: %s: %w", p.Name, err)
	case slices.Contains(p.host.Networks, p.Name):
		p.conflict("name: %s: there is a network of that name", p.Name)
	}
	for _, other := range p.host.Networks {
		if other != p.Name && strings.EqualFold(other, p.Name) {
			p.conflict("name: %s: DNS takes it for network %s: want one that differs in more than capitals", p.Name, other)
		}
	}
}

// bridge sets what Docker's user-defined networks have.
func (p *plan) bridge() {
	off := false
	if p.conf.Internal = p.Internal; p.NoICC {
		p.conf.ICC = &off
	}
	p.conf.IsGateway, p.conf.IsDefaultGateway = p.Internal, !p.Internal
	p.conf.Isolate = p.Isolate == nil && !p.Internal || p.Isolate != nil && *p.Isolate
	p.conf.Names, p.conf.IPSpoofCheck = !p.NoNames && p.Name != Bridge, p.host.NoSpoofCheck == nil // Docker's bridge has no names
	p.setOptions()
	if p.Internal && p.conf.IPMasq != nil && *p.conf.IPMasq {
		p.refuse("--opt: ipMasq=true: cannot be together with --internal")
	}
	if p.conf.IPSpoofCheck && p.host.NoSpoofCheck != nil {
		p.refuse("--opt: ipspoofchk=true: %w", p.host.NoSpoofCheck)
	}
	if p.NoICC && !p.conf.NoICC() {
		p.refuse("--opt: icc=true: cannot be together with --no-icc")
	}
	if p.conf.HairpinMode && p.conf.PromiscMode {
		p.refuse("--opt: hairpinMode=true: cannot be together with promiscMode")
	}
	p.findBridge()
	p.conf.Capabilities = map[string]bool{"portMappings": true, "ips": true, "mac": true}
	if p.conf.Names {
		p.conf.Capabilities["aliases"] = true
	}
}

// findBridge names the bridge. One that is there already must be asked for.
func (p *plan) findBridge() {
	asked := p.conf.Bridge != ""
	if p.conf.Mode == "routed" && !asked {
		return
	}
	if !asked {
		p.conf.Bridge = BridgeName(p.Name)
	}
	name := p.conf.Bridge
	if other := p.host.Links[name]; other == p.Name { // the name is taken, which is said
		return
	} else if other != "" {
		p.conflict("bridge: %s: is that of network %s: --opt bridge=NAME takes another", name, other)
		return
	}
	if cni.ValidIfName(name) != nil {
		return // said with the option
	}
	switch there, bridge, err := p.host.Exists(name); {
	case err != nil:
		p.errs = append(p.errs, err)
	case there && !bridge:
		p.conflict("bridge: %s: is an interface of this host, and no bridge: --opt bridge=NAME takes another", name)
	case there && !asked:
		p.conflict("bridge: %s: is there, and no network's: --opt bridge=%s takes it, and leaves it there when the network goes", name, name)
	case there:
		p.mark.KeepLink = true
	}
}

// BridgeName is the name of a network's bridge: br-NAME, or a hash of the name where
// that is too long for an interface.
func BridgeName(network string) string {
	if name := "br-" + network; cni.ValidIfName(name) == nil {
		return name
	}
	const digits = 12
	return "br-" + hex.EncodeToString(attach.Digest([]byte(network)))[:digits]
}

func (p *plan) macvlan() {
	p.onParent("macvlan_mode")
	if p.conf.HostShim && p.conf.Mode != "" && p.conf.Mode != "bridge" {
		p.refuse("--opt: hostShim=true: want macvlan_mode bridge: in %s the host and the container cannot talk", p.conf.Mode)
	}
	if p.conf.HostShim && p.conf.LinkInContainer {
		p.refuse("--opt: hostShim=true: cannot be together with linkInContainer: the parent is not the host's")
	}
	p.checkParent()
	p.conf.Capabilities = map[string]bool{"ips": true, "mac": true}
}

func (p *plan) ipvlan() {
	if p.host.NoIPVlan != nil {
		p.refuse("--driver ipvlan: %w", p.host.NoIPVlan)
	}
	p.onParent("ipvlan_flag")
	p.checkParent()
	p.conf.Capabilities = map[string]bool{"ips": true}
}

// article is a driver's name with its article.
func article(driver string) string {
	if driver == IPVlan {
		return "an " + driver
	}
	return "a " + driver
}

// onParent is what networks on an interface of the host have in common. apart is the option
// that keeps containers from each other.
func (p *plan) onParent(apart string) {
	p.setOptions()
	for flag, given := range map[string]bool{
		"internal": p.Internal, "isolate": p.Isolate != nil && *p.Isolate,
	} {
		if given {
			p.refuse("--%s: %s network is on its parent's network, past the host's firewall", flag, article(p.Driver))
		}
	}
	if p.NoICC {
		p.refuse("--no-icc: want --opt %s=private, which keeps containers from each other", apart)
	}
}

// checkParent wants the parent to be there, or that which a VLAN's is made on.
func (p *plan) checkParent() {
	name := p.conf.Master
	if name == "" {
		p.refuse("--opt: parent: want the interface of the host whose network the containers are to be on: --opt parent=eth0")
		return
	}
	if p.conf.LinkInContainer {
		return
	}
	there, _, err := p.host.Exists(name)
	if dot := strings.LastIndexByte(name, '.'); dot > 0 && !there && err == nil {
		there, _, err = p.host.Exists(name[:dot])
	}
	if err != nil {
		p.errs = append(p.errs, err)
	} else if !there {
		p.refuse("--opt: parent=%s: there is no such interface", name)
	}
}

// dns keeps the servers that are asked for what is not here.
func (p *plan) dns() {
	for _, a := range p.DNS {
		if p.conf.DNS == nil {
			p.conf.DNS = &DNS{}
		}
		p.conf.DNS.Nameservers = append(p.conf.DNS.Nameservers, a.String())
	}
}

// addresses makes the ipam section, and has the code that will read it check it.
func (p *plan) addresses() {
	p.conf.IPAM = &IPAM{Sticky: p.Sticky}
	for _, r := range p.ranges {
		p.conf.IPAM.Ranges = append(p.conf.IPAM.Ranges, []Range{r})
		if OnParent(p.Driver) {
			everywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			if r.Subnet.Addr().Is6() {
				everywhere = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			}
			p.conf.IPAM.Routes = append(p.conf.IPAM.Routes, Route{everywhere})
		}
	}
	raw, err := json.Marshal(p.conf.IPAM)
	if err == nil {
		_, err = ipam.Parse(raw)
	}
	if err != nil {
		p.errs = append(p.errs, err)
	}
}
