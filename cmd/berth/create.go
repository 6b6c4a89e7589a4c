package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/ipam"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// createFlags are what the flags of create say.
type createFlags struct {
	driver    string
	overlay   overlay.Network
	spec      conflist.Spec
	mtu       int
	udpPort   int
	isolate   bool
	noIsolate bool
	install   bool
	ignore    bool
	docker    dockerFlags

	modeIPv4, modeIPv6 string
}

func (p *program) networkCreateCommand() *cobra.Command {
	var w createFlags
	c := &cobra.Command{
		Use:   "create [flags] NAME",
		Short: "Make a network",
		Long: `Make a network. Its name is printed when it is there.

--driver bridge is a network of this host, as Docker's user-defined ones: containers on
it reach each other by address and by name, and the outside by translation; other such
networks do not reach them, but for published ports (--no-isolate lets them). Its
conflist goes to --net-dir, where every runtime of this host finds it; the bridge comes
with the first container. Its options, of which Docker's words are taken, too:
  ` + strings.Join(conflist.OptionWords(conflist.Bridge), "\n  ") + `

--driver macvlan gives containers an address on the network that an interface of the
host is on, as if they were machines there. Options:
  ` + strings.Join(conflist.OptionWords(conflist.Macvlan), "\n  ") + `

--driver ipvlan is the same with the MAC of that interface, for networks that take no other;
with ipvlan_mode=l3 or l3s the host routes to the containers, and the network needs a
route to them. Options:
  ` + strings.Join(conflist.OptionWords(conflist.IPVlan), "\n  ") + `

--driver none is one of this host that leaves containers alone in their namespaces.

A bridge network of the name bridge is Docker's predefined one: isolated as all are,
without names, and not pruned. No host has it unless it is made.

Without --subnet it gets the first of --address-pools that overlaps neither another
network nor a route of this host; with --ipv6 also a random one of fd00::/8, unless the
pools have one. One that spans hosts gets a /16 of 10.0.0.0/8.

--driver vxlan-overlay is a network that spans hosts, and is kept in the store. Each
host owns blocks of its subnets, from which its containers get their addresses;
containers reach each other by address and by name, wherever they are. Broadcast and
multicast stay on their host. Every host's runtime needs its conflist: --install writes it
to --net-dir of this one, 'berth network install' on the others, and an agent with
--conf-dir by itself.

Refused are a name, a bridge, a VNI or a subnet that another network has, whoever made
it, and a subnet that this host has a route to: all that is wrong is said at once. A
network does not change once it is made.

` + exitCodes,
		Example: `  berth network create my-bridge
  berth network create --subnet 172.30.0.0/16 --subnet fd00:30::/64 --ip-range 172.30.5.0/24 \
      --aux-address printer=172.30.5.9 --label team=web web
  berth network create --internal --no-icc vault
  berth network create --driver macvlan --subnet 192.168.1.0/24 --gateway 192.168.1.1 \
      --ip-range 192.168.1.192/27 --opt parent=eth0 lan
  berth network create --driver vxlan-overlay --subnet 10.42.0.0/16 --install blue
  berth network create --driver vxlan-overlay --subnet 10.44.0.0/16 --subnet fd00:44::/48 \
      --node-prefix 25,64 --mtu 1400 --isolate --label team=web green`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			w.driver = cmp.Or(drivers[w.driver], w.driver)
			w.overlay.Name, w.spec.Name, w.spec.Driver = args[0], args[0], w.driver
			if err := w.check(c.Flags()); err != nil {
				return usageError{err}
			}
			if w.docker.attachable {
				p.warn(errors.New("--attachable: changes nothing: containers can be connected to every network"))
			}
			if w.driver == driverOverlay {
				return p.createOverlay(c.Context(), w)
			}
			return p.createHere(c.Context(), &w)
		},
	}
	w.flags(c.Flags())
	p.settings.poolFlag(c.Flags())
	p.settings.storeFlags(c.Flags())
	return c
}

func (w *createFlags) flags(f *pflag.FlagSet) {
	f.SortFlags = false
	s, o := &w.spec, &w.overlay
	modes := []string{"nat", "nat-unprotected", "routed", "isolated"}
	addShort(f, oneOf(&w.driver, driverBridge, driverMacvlan, driverIPVlan, driverOverlay, driverNone, dockersOverlay, dockersNull), "driver", "d", "what kind of network; overlay is vxlan-overlay, and null none")
	addFlag(f, prefixes(&s.Subnets), "subnet", "addresses of the network; twice for IPv4 and IPv6")
	addFlag(f, addresses(&s.Gateways), "gateway", "gateway of a subnet (default its first address)")
	addFlag(f, prefixes(&s.IPRanges), "ip-range", "give containers addresses of this part of a subnet only")
	addFlag(f, texts(&s.Aux, "name=address"), "aux-address", "an address of a subnet that is something else's, again for more")
	addFlag(f, onOff(&s.IPv6), "ipv6", "an IPv6 subnet, too, if none is given")
	addFlag(f, sticky(&s.Sticky), "sticky", "a container that comes back under its name, or as its pod, gets its address on this host again while there are others")
	addFlag(f, onOff(&s.Internal), "internal", "nothing in or out but the network itself")
	addFlag(f, onOff(&w.isolate), "isolate", "no traffic to or from other isolated networks, except to published ports (bridge: unless --no-isolate or --internal)")
	addFlag(f, onOff(&w.noIsolate), "no-isolate", "let other networks of this host reach it")
	addFlag(f, oneOf(&w.modeIPv4, modes...), "gateway-mode-ipv4", "what comes in: published ports; all that is routed here; published ports, untranslated; nothing, with --internal")
	addFlag(f, oneOf(&w.modeIPv6, modes...), "gateway-mode-ipv6", "the same for IPv6")
	addFlag(f, onOff(&s.NoICC), "no-icc", "containers cannot talk to each other, except through published ports")
	addFlag(f, onOff(&s.NoNames), "no-names", "containers do not find each other by name")
	addFlag(f, addresses(&s.DNS), "dns", "ask this server for names that are not the network's, not those of the host")
	addFlag(f, number(&w.mtu, "bytes", 0, math.MaxUint16), "mtu", "MTU of the containers; 0: that of the default route's device, of the parent, or what the underlay leaves")
	addShort(f, texts(&s.Options, "key=value"), "opt", "o", "an option of the driver, again for more")
	addFlag(f, labels(&s.Labels), "label", "a note for people and programs, again for more")
	addFlag(f, lengths(&o.NodePrefix), "node-prefix", "length of the blocks that hosts own, in the order of the subnets (default 24 and 64)")
	addFlag(f, number(&o.VNI, "number", 0, overlay.MaxVNI), "vni", "VXLAN network identifier; 0: one that is free")
	addFlag(f, number(&w.udpPort, "port", 0, math.MaxUint16), "udp-port", "port of the VXLAN packets, or of WireGuard's; 0: 4789, or with --encrypted one that is free from 51820")
	addFlag(f, onOff(&o.Encrypted), "encrypted", "encrypt between hosts: WireGuard in VXLAN's place")
	addFlag(f, onOff(&w.ignore), "ignore", "when there is a network of the name, leave it as it is")
	addFlag(f, onOff(&o.PodCIDRs), "pod-cidrs", "hosts' blocks are what Kubernetes gives their Nodes, spec.podCIDRs, with --store kubernetes")
	w.docker.flags(f)
	addFlag(f, onOff(&w.install), "install", "write the conflist for this host's runtimes, too (the other drivers always do)")
}

// Flags that are for some drivers only.
var (
	overlayFlags = []string{"node-prefix", "vni", "udp-port", "encrypted", "pod-cidrs"}
	hereFlags    = []string{"gateway", "ip-range", "aux-address", "no-isolate", "dns"}
	addressFlags = []string{"subnet", "ipv6", "ipv4", "internal", "isolate", "no-icc", "no-names", "mtu", "opt", "sticky"}
	bridgeFlags  = []string{"gateway-mode-ipv4", "gateway-mode-ipv6"}
)

// check refuses the flags that are for other drivers, and completes the rest.
func (w *createFlags) check(f *pflag.FlagSet) error {
	var errs []error
	refuse := func(names []string, drivers string) {
		for _, name := range names {
			if f.Changed(name) {
				errs = append(errs, fmt.Errorf("--%s: is for --driver %s", name, drivers))
			}
		}
	}
	if w.driver == driverOverlay {
		refuse(hereFlags, "bridge, macvlan or ipvlan")
		refuse(bridgeFlags, driverBridge)
		errs = append(errs, w.overlayOptions())
	} else {
		refuse(overlayFlags, driverOverlay)
	}
	if conflist.OnParent(w.driver) {
		refuse(bridgeFlags, driverBridge)
		refuse([]string{"no-names"}, "bridge or vxlan-overlay")
	}
	if w.driver == driverNone {
		refuse(slices.Concat(bridgeFlags, hereFlags, addressFlags), "bridge, macvlan or ipvlan")
	}
	errs = append(errs, w.docker.check(w, f))
	if w.isolate && w.noIsolate {
		errs = append(errs, errors.New("--no-isolate: cannot be together with --isolate"))
	}
	s, o := &w.spec, &w.overlay
	o.Subnets, o.Internal, o.Isolate, o.NoICC, o.Names = s.Subnets, s.Internal, w.isolate, s.NoICC, !s.NoNames
	o.Labels, o.MTU, o.Sticky = s.Labels, w.mtu, s.Sticky
	if f.Changed("isolate") || w.noIsolate {
		on := w.isolate && !w.noIsolate
		s.Isolate = &on
	}
	for _, mode := range []struct{ flag, option, word string }{
		{"gateway-mode-ipv4", "gatewayModeIPv4", w.modeIPv4}, {"gateway-mode-ipv6", "gatewayModeIPv6", w.modeIPv6},
	} {
		if f.Changed(mode.flag) && w.driver == driverBridge {
			s.Options = slices.Insert(s.Options, 0, mode.option+"="+mode.word)
		}
	}
	if w.mtu != 0 {
		s.Options = slices.Insert(s.Options, 0, fmt.Sprintf("mtu=%d", w.mtu))
	}
	return errors.Join(errs...)
}

// overlayOptions takes the options of Docker's overlay driver, and says which port is
// whose.
func (w *createFlags) overlayOptions() error {
	var errs []error
	for _, option := range w.spec.Options {
		switch key, value, _ := strings.Cut(option, "="); {
		case key == "encrypted" && (value == "" || value == "true"):
			w.overlay.Encrypted = true
		case key == "encrypted" && value == "false":
		default:
			errs = append(errs, fmt.Errorf("--opt: %q: want encrypted, the one of --driver %s", option, driverOverlay))
		}
	}
	if w.overlay.Encrypted {
		w.overlay.ListenPort = w.udpPort
	} else {
		w.overlay.Port = w.udpPort
	}
	return errors.Join(errs...)
}

// addresses are addresses, separated by commas or given one by one.
func addresses(to *[]netip.Addr) pflag.Value {
	return &value{kind: "address", get: func() string { return "" }, set: func(s string) error {
		for word := range strings.SplitSeq(s, ",") {
			a, err := netip.ParseAddr(word)
			if err != nil || a.Zone() != "" {
				return errors.New("want an address such as 10.42.0.1 or fd00:42::1")
			}
			*to = append(*to, a.Unmap())
		}
		return nil
	}}
}

// sticky is a word of [ipam.Config.Sticky].
func sticky(to *string) pflag.Value {
	return &value{kind: ipam.StickyName + "|" + ipam.StickyPod, get: func() string { return *to }, set: func(s string) error {
		if *to = s; s == "" {
			return errors.New("want name or pod")
		}
		return ipam.ValidSticky(s)
	}}
}

// texts are texts, one for each time that the flag is given.
func texts(to *[]string, kind string) pflag.Value {
	return &value{kind: kind, get: func() string { return "" }, set: func(s string) error {
		*to = append(*to, s)
		return nil
	}}
}
