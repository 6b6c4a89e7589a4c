package schema

import "strings"

// OwnPrefix makes the second name of each plugin, berth-bridge of bridge: for a folder in
// which bridge, macvlan, ipvlan or loopback are another suite's.
const OwnPrefix = "berth-"

// Canonical is a plugin's type without [OwnPrefix]; that of another suite is as it was.
func Canonical(kind string) string {
	if name, ok := strings.CutPrefix(kind, OwnPrefix); ok && (name == "loopback" || Plugin(name) != nil) {
		return name
	}
	return kind
}

// Plugin returns the table of a plugin's configuration; nil for a type that has none. What
// is in ipam, when that is Berth's own, is in [IPAM].
func Plugin(kind string) *Table {
	for _, p := range plugins {
		if p.kind == kind {
			return p.table
		}
	}
	return nil
}

// Common is the table of what all plugins have.
var Common = &Table{Keys: [][]Key{common}, Foreign: [][]Foreign{foreign}}

var plugins = [...]struct {
	kind  string
	table *Table
}{
	{"bridge", &Table{Keys: [][]Key{common, bridged, bridge}, Foreign: [][]Foreign{foreign, notMacvlan}}},
	{"vxlan-overlay", &Table{Keys: [][]Key{common, bridged, notOverlay}, Foreign: [][]Foreign{foreign, notMacvlan, notBridge}}},
	{"macvlan", &Table{Keys: [][]Key{common, onParent, macvlan}, Foreign: [][]Foreign{foreign, ofIPvlan, notBridge, notBridged}}},
	{"ipvlan", &Table{Keys: [][]Key{common, onParent, ipvlan}, Foreign: [][]Foreign{foreign, notIPvlan, notBridge, notBridged}}},
	{"host", Common},
	{"none", Common},
	{"container-share", &Table{Keys: [][]Key{common, share}, Foreign: [][]Foreign{foreign}}},
}

// common are the keys of all plugins: CNI's own (SPEC section 1 and CONVENTIONS.md), with
// what runtimes put beside, and ours.
var common = []Key{
	{Name: "cniVersion", Kind: String}, {Name: "name", Kind: String}, {Name: "type", Kind: String},
	{Name: "ipam", Kind: Object}, {Name: "dns", Kind: Object, Of: dns}, {Name: "prevResult", Kind: Object},
	{Name: "args", Kind: Object, Of: args}, {Name: "capabilities", Kind: Object, Of: capabilities}, {Name: "runtimeConfig", Kind: Object, Of: runtimeConfig},
	{Name: "cni.dev/valid-attachments"}, {Name: "cni.dev/attachments"},
	{Name: "cniVersions"}, {Name: "plugins"}, {Name: "disableCheck"}, {Name: "disableGC"}, {Name: "loadOnlyInlinedPlugins"},
	{Name: "berth"}, {Name: "nerdctlID"}, {Name: "nerdctlLabels"}, {Name: "deviceID"}, {Name: "pciBusID"},
	{Name: "delegates"}, {Name: "description"}, {Name: "labels"}, {Name: "annotations"}, {Name: "version"}, {Name: "id"},

	{Name: "internal", Kind: Bool, Guards: true}, {Name: "icc", Kind: Bool, Guards: true}, {Name: "isolate", Kind: Bool, Guards: true},
	{Name: "names", Kind: Bool}, {Name: "acceptRA", Kind: Bool}, {Name: "firewallBackend", Kind: String},
}

// bridged are those of the plugins that put containers on a bridge.
var bridged = []Key{
	{Name: "mode", Kind: String, Guards: true}, {Name: "isDefaultGateway", Kind: Bool}, {Name: "ipMasq", Kind: Bool}, {Name: "ipMasqBackend", Kind: String},
	{Name: "gatewayModeIPv4", Kind: String, Guards: true}, {Name: "gatewayModeIPv6", Kind: String, Guards: true},
	{Name: "hairpinMode", Kind: Bool}, {Name: "promiscMode", Kind: Bool}, {Name: "enabledad", Kind: Bool},
	{Name: "macspoofchk", Kind: Bool, Guards: true}, {Name: "ipspoofchk", Kind: Bool, Guards: true}, {Name: "portIsolation", Kind: Bool, Guards: true},
}

var bridge = []Key{
	{Name: "bridge", Kind: String}, {Name: "isGateway", Kind: Bool}, {Name: "forceAddress", Kind: Bool}, {Name: "mtu", Kind: Number},
	{Name: "vlan", Kind: Number, Guards: true}, {Name: "vlanTrunk", Kind: Objects, Of: vlanRange}, {Name: "preserveDefaultVlan", Kind: Bool},
	{Name: "disableContainerInterface", Kind: Bool}, {Name: "hostBindingIPv4", Kind: String, Guards: true},
}

var vlanRange = &Table{Keys: [][]Key{{{Name: "id", Kind: Number}, {Name: "minID", Kind: Number}, {Name: "maxID", Kind: Number}}}}

// notOverlay are keys that the overlay refuses with words of its own.
var notOverlay = []Key{{Name: "bridge"}, {Name: "mtu"}, {Name: "vlan"}, {Name: "vlanTrunk"}}

// onParent are those of the plugins that put containers on the network of an interface of
// the host.
var onParent = []Key{
	{Name: "master", Kind: String}, {Name: "mode", Kind: String, Guards: true}, {Name: "mtu", Kind: Number},
	{Name: "linkInContainer", Kind: Bool}, {Name: "enabledad", Kind: Bool},
}

var macvlan = []Key{{Name: "mac", Kind: String}, {Name: "bcqueuelen", Kind: Number}, {Name: "hostShim", Kind: Bool}}

var ipvlan = []Key{{Name: "flag", Kind: String, Guards: true}}

var share = []Key{{Name: "container", Kind: String}, {Name: "netnsPath", Kind: String}}

var dns = &Table{
	Keys: [][]Key{{{Name: "nameservers", Kind: Strings}, {Name: "domain", Kind: String}, {Name: "search", Kind: Strings}, {Name: "options", Kind: Strings}}},
	Foreign: [][]Foreign{{{"servers", `write "nameservers": ["ADDRESS"]`, false}, {"searches", `write "search": ["DOMAIN"]`, false},
		{"searchDomains", `write "search": ["DOMAIN"]`, false}, {"server", `write "nameservers": ["ADDRESS"]`, false}}},
}

// runtimeDNS has other words than dns (CONVENTIONS.md).
var runtimeDNS = &Table{
	Runtime: true,
	Keys:    [][]Key{{{Name: "servers", Kind: Strings}, {Name: "searches", Kind: Strings}, {Name: "options", Kind: Strings}, {Name: "domain"}}},
	Foreign: [][]Foreign{{{"nameservers", `the runtime's word is "servers"`, false}, {"search", `the runtime's word is "searches"`, false}}},
}

var args = &Table{Runtime: true, Keys: [][]Key{{{Name: "cni", Kind: Object, Of: CNIArgs}}}}

// CNIArgs are the keys of args.cni.
var CNIArgs = &Table{
	Runtime: true,
	Keys: [][]Key{{{Name: "ips", Kind: Strings}, {Name: "mac", Kind: String}, {Name: "links", Kind: Strings}, {Name: "labels", Kind: Objects},
		{Name: "hostname", Kind: String}, {Name: "aliases", Kind: Strings}, {Name: "container", Kind: String}}},
	Foreign: [][]Foreign{{{"ip", `write "ips": ["ADDRESS"]`, false}}},
}

// capabilities are what a configuration declares, and runtimeConfig what the runtime gives
// for it.
var capabilities = &Table{Runtime: true, Keys: [][]Key{{{Name: "portMappings", Kind: Bool}, {Name: "ips", Kind: Bool}, {Name: "mac", Kind: Bool},
	{Name: "dns", Kind: Bool}, {Name: "aliases", Kind: Bool}, {Name: "ipRanges", Kind: Bool}}}}

var runtimeConfig = &Table{Runtime: true, Keys: [][]Key{runtimeKeys}, Foreign: [][]Foreign{{
	{"bandwidth", "no plugin of Berth's limits bandwidth: chain the reference's bandwidth behind this one, and declare the capability there", false},
	{"deviceID", "the interface is no device of its own: devices are for host-device and SR-IOV", false},
	{"cgroupPath", "no cgroup is looked at: it is the firewall plugin's", false},
	{"infinibandGUID", "the interface is no InfiniBand", false},
	{"podAnnotations", "annotations are not read", false},
}}}

var runtimeKeys = []Key{
	{Name: "portMappings", Kind: Objects, Of: portMapping}, {Name: "ips", Kind: Strings}, {Name: "mac", Kind: String},
	{Name: "dns", Kind: Object, Of: runtimeDNS}, {Name: "aliases"}, {Name: "ipRanges", Kind: ObjectLists, Of: addressRange},
}

// portMapping is written by runtimes, and by hand in a test. A port that is published
// more widely than was meant, or by another protocol, is open.
var portMapping = &Table{
	Runtime: true,
	Keys: [][]Key{{{Name: "hostPort", Kind: Number, Guards: true}, {Name: "containerPort", Kind: Number, Guards: true},
		{Name: "protocol", Kind: String, Guards: true}, {Name: "hostIP", Kind: String, Guards: true}, {Name: "range", Kind: Number}}},
	Foreign: [][]Foreign{{
		{"ip", `write "hostIP": without it the port is published on all addresses`, true},
		{"hostAddress", `write "hostIP": without it the port is published on all addresses`, true},
		{"bindIP", `write "hostIP": without it the port is published on all addresses`, true},
		{"listen", `write "hostIP": without it the port is published on all addresses`, true},
		{"proto", `write "protocol": without it it is TCP`, true}, {"ipProtocol", `write "protocol": without it it is TCP`, true},
		{"published", `write "hostPort"`, false}, {"target", `write "containerPort"`, false},
	}},
}
