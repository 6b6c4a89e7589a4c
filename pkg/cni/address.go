package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/ipam"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/names"
)

// Addresses is the step that gives the container its addresses: a lease of the
// built-in IPAM, or another IPAM plugin; nil when the configuration is empty, for a
// network of layer 2.
func (r *Request) Addresses(conf *ipam.Config) attach.Step {
	r.served.ips = !conf.Empty()
	r.served.ranges = r.served.ips && conf == r.IPAM
	switch {
	case conf.BuiltIn():
		return &ipam.Lease{Conf: conf, Wanted: r.wantedIPs, Sticky: r.Sticky(conf)}
	case conf.Empty():
		return nil
	}
	return r.delegation(conf.Type)
}

// Sticky is the name that addresses of a network are kept for when the container gives them
// back; empty where they are kept for nobody, or it has no such name.
func (r *Request) Sticky(conf *ipam.Config) string {
	const most = 1 << 10 // bytes; the store's keys have an end
	name := ""
	switch conf.Sticky {
	case ipam.StickyName:
		name = names.Own(names.Source{Network: r.Conf.Name, Container: r.ContainerID, Args: r.Args, CNI: rawCNI(r.Conf.Args)})
	case ipam.StickyPod:
		if space, pod := r.Args["K8S_POD_NAMESPACE"], r.Args["K8S_POD_NAME"]; space != "" && pod != "" {
			name = space + "/" + pod
		}
	}
	if len(name) > most || strings.ContainsRune(name, 0) {
		return ""
	}
	return name
}

// Addressed returns the steps of an interface and of its addresses in their order. The
// built-in IPAM claims the addresses first. Another one may work through the interface:
// that is made before, and gets the addresses afterwards.
func (r *Request) Addressed(conf *ipam.Config, g *link.Gateway, made ...attach.Step) []attach.Step {
	from := r.Addresses(conf)
	if _, delegated := from.(*ipam.Delegate); delegated {
		return append(made, from, g, &link.Addresses{})
	}
	return append([]attach.Step{from, g}, made...)
}

// NoIPAM tells whether the network gives its containers no addresses. What STATUS does not
// get, the ranges of the runtime, counts as there.
func (r *Request) NoIPAM() bool {
	return r.IPAM.Empty() && (r.ContainerID != "" || !r.declares("ipRanges"))
}

// AcceptRA tells whether the container takes router advertisements (acceptRA): without a
// word for it only where no IPAM gives it addresses, on a network of layer 2.
func (r *Request) AcceptRA(conf *ipam.Config) bool {
	if r.Conf.AcceptRA != nil {
		return *r.Conf.AcceptRA
	}
	return conf.Empty()
}

func (r *Request) delegation(ipamType string) *ipam.Delegate {
	return &ipam.Delegate{Type: ipamType, Conf: r.StdinData, Path: r.Path, Args: r.CmdArgs.Args}
}

// delegate is the delegated IPAM of the configuration as it is today; nil when it has
// none.
func (r *Request) delegate() *ipam.Delegate {
	conf, err := ipam.Parse(r.Conf.IPAM)
	if err != nil || conf.BuiltIn() || conf.Empty() {
		return nil
	}
	return r.delegation(conf.Type)
}

// readIPAM reads the ipam section, with the ranges of the capability ipRanges. STATUS
// gets no capabilities: a configuration that leaves the ranges to the runtime has none then.
func (r *Request) readIPAM() (*ipam.Config, error) {
	var ranges json.RawMessage
	if asksFor(r.Conf.Runtime.IPRanges) {
		ranges = r.Conf.Runtime.IPRanges
	}
	conf, err := ipam.ParseWith(r.Conf.IPAM, ranges)
	if errors.Is(err, ipam.ErrNoRanges) && r.ContainerID == "" && r.declares("ipRanges") {
		return &ipam.Config{}, nil
	}
	return conf, err
}

// declares tells whether the configuration has a capability.
func (r *Request) declares(capability string) bool {
	var c map[string]bool
	return json.Unmarshal(r.Conf.Capabilities, &c) == nil && c[capability]
}

// KeepsDefaultRoute tells that a person has attached the container, which then keeps
// the default routes that it has.
func (r *Request) KeepsDefaultRoute() bool { return r.Args[ArgConnected] == Connected }

// GatewayPriority is which of the container's networks has its way out: 0 leaves it to their
// order, and is that of an internal one, which has none.
func (r *Request) GatewayPriority(internal bool) int {
	asked := r.Args[ArgGatewayPriority]
	if asked == "" || internal {
		return 0
	}
	n, err := strconv.Atoi(asked)
	if err != nil || n < 0 || n > link.MaxGatewayPriority {
		r.Refuse("CNI_ARGS "+ArgGatewayPriority, asked, "want a number, 0 to %d", link.MaxGatewayPriority)
		return 0
	}
	return n
}

// askedIPs are the addresses asked for, with their key: by the capability, else by
// args.cni, else by CNI_ARGS.
func (r *Request) askedIPs() (key string, ips []string) {
	switch {
	case len(r.Conf.Runtime.IPs) > 0:
		return "runtimeConfig.ips", r.Conf.Runtime.IPs
	case len(r.args.CNI.IPs) > 0:
		return "args.cni.ips", r.args.CNI.IPs
	case r.Args["IP"] != "":
		return "CNI_ARGS IP", strings.Split(r.Args["IP"], ",")
	}
	return "", nil
}

func (r *Request) ips() []netip.Addr {
	key, ips := r.askedIPs()
	addrs, err := ipam.ParseRequested(ips)
	if err != nil {
		r.problems = append(r.problems, fmt.Errorf("%s: %w", key, err))
	}
	return addrs
}

// refuseIPs refuses addresses that are asked for on a network that gives none.
func (r *Request) refuseIPs() {
	if key, ips := r.askedIPs(); len(ips) > 0 && !r.served.ips && r.IPAM.Empty() && !r.Refused() {
		r.Refuse(key, strings.Join(ips, ", "), "the network has no ipam section")
	}
}

// mac is the MAC asked for, in the same order as the reference bridge; empty when
// none is.
func (r *Request) mac() string {
	key, mac := "runtimeConfig.mac", r.Conf.Runtime.MAC
	if mac == "" {
		key, mac = "args.cni.mac", r.args.CNI.MAC
	}
	if mac == "" {
		key, mac = "CNI_ARGS MAC", r.Args["MAC"]
	}
	if mac == "" {
		return ""
	}
	return r.MAC(key, mac)
}

// MAC is the MAC of an interface as the kernel writes it. One that is none is noted.
func (r *Request) MAC(key, mac string) string {
	good, err := link.ParseMAC(mac)
	if err != nil {
		r.Refuse(key, mac, "%v", err)
	}
	return good
}

// RefuseAddress refuses everything that asks for an address or a MAC, for a mode
// whose containers have none of their own.
func (r *Request) RefuseAddress(why string) {
	if !r.IPAM.Empty() {
		r.Refuse("ipam", string(r.Conf.IPAM), "%s", why)
	}
	r.refuseAsked(why, []asked{{"runtimeConfig.ips", strings.Join(r.Conf.Runtime.IPs, " ")}, {"args.cni.ips", strings.Join(r.args.CNI.IPs, " ")},
		{"CNI_ARGS IP", r.Args["IP"]}})
	r.RefuseMAC(why)
}

// RefuseMAC refuses a MAC that is asked for, where there is none to choose.
func (r *Request) RefuseMAC(why string) {
	r.refuseAsked(why, []asked{{"runtimeConfig.mac", r.Conf.Runtime.MAC}, {"args.cni.mac", r.args.CNI.MAC}, {"CNI_ARGS MAC", r.Args["MAC"]}})
}

// asked is what is asked for by a key; nothing, where the value is empty.
type asked struct{ key, value string }

func (r *Request) refuseAsked(why string, all []asked) {
	for _, a := range all {
		if a.value != "" {
			r.Refuse(a.key, a.value, "%s", why)
		}
	}
}

// ValidMTU refuses an MTU that an interface with addresses of the subnets cannot have,
// up to most bytes; 0 is what unset says.
func (r *Request) ValidMTU(mtu, most int, unset string, subnets []netip.Prefix) {
	if mtu == 0 {
		return
	}
	if mtu < link.MinMTU || mtu > most {
		r.Refuse("mtu", mtu, "want %d to %d bytes, or 0 for %s", link.MinMTU, most, unset)
		return
	}
	for _, s := range subnets {
		if s.Addr().Is6() && mtu < link.MinMTU6 {
			r.Refuse("mtu", mtu, "want at least %d bytes for IPv6", link.MinMTU6)
			return
		}
	}
}
