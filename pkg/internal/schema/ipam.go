package schema

// IPAM are the keys of the ipam object of the built-in IPAM, whose spelling is
// host-local's.
var IPAM = &Table{
	Keys: [][]Key{{
		{Name: "type", Kind: String},
		{Name: "ranges", Kind: ObjectLists, Of: addressRange},
		{Name: "routes", Kind: Objects, Of: route},
		{Name: "sticky", Kind: String},
	}, rangeKeys},
	Foreign: [][]Foreign{{
		{"resolvConf", `host-local reads nameservers from it: write them in the plugin's "dns": {"nameservers": ["ADDRESS"]}, beside ipam`, false},
		{"dataDir", "addresses are kept with the attachments, in /run/berth; the environment variable BERTH_STATE_DIR names another folder", false},
		{"dns", `write it beside ipam: "dns": {"nameservers": ["ADDRESS"]}`, false},
		{"addresses", `the plugin static takes them ("type": "static"); here a container asks for an address by the capability ips, args.cni.ips or IP in CNI_ARGS`, false},
		{"address", `a container asks for an address by the capability ips, args.cni.ips or IP in CNI_ARGS`, false},
		{"ips", "a container asks for an address by the capability ips, args.cni.ips or IP in CNI_ARGS", false},
		{"range", `write "subnet", with "rangeStart" and "rangeEnd" for a part of it`, false},
		{"subnets", `write "ranges": [[{"subnet": "CIDR"}]], with a list for each address`, false},
		{"ipRanges", `write "ranges": [[{"subnet": "CIDR"}]], with a list for each address`, false},
		{"daemonSocketPath", `it is of the plugin dhcp: "type": "dhcp"`, false},
		{"persistent", `write "sticky": "name" or "pod"`, false}, {"stickyIP", `write "sticky": "name" or "pod"`, false},
		{"request", `it is of the plugin dhcp: "type": "dhcp"`, false}, {"provide", `it is of the plugin dhcp: "type": "dhcp"`, false},
		{"isDefaultGateway", "write it beside ipam", false}, {"isGateway", "write it beside ipam", false}, {"mtu", "write it beside ipam", false},
	}, rangeForeign},
}

// Ranges are lists of ranges, as the capability ipRanges has them.
var Ranges = Key{Name: "ipRanges", Kind: ObjectLists, Of: addressRange}

var addressRange = &Table{Keys: [][]Key{rangeKeys}, Foreign: [][]Foreign{rangeForeign}}

var rangeKeys = []Key{{Name: "subnet", Kind: String}, {Name: "gateway", Kind: String}, {Name: "rangeStart", Kind: String},
	{Name: "rangeEnd", Kind: String}, {Name: "exclude", Kind: Strings}}

var rangeForeign = []Foreign{
	{"gw", `write "gateway"`, false}, {"cidr", `write "subnet"`, false}, {"network", `write "subnet"`, false},
	{"start", `write "rangeStart"`, false}, {"end", `write "rangeEnd"`, false},
	{"excludes", `write "exclude": ["ADDRESS or CIDR"]`, false}, {"omitRanges", `write "exclude": ["ADDRESS or CIDR"]`, false},
	{"excludeRanges", `write "exclude": ["ADDRESS or CIDR"]`, false}, {"reserved", `write "exclude": ["ADDRESS or CIDR"]`, false},
	{"ipRange", `write "rangeStart" and "rangeEnd"`, false},
}

var route = &Table{
	Keys: [][]Key{{{Name: "dst", Kind: String}, {Name: "gw", Kind: String}, {Name: "mtu", Kind: Number}, {Name: "advmss", Kind: Number},
		{Name: "priority", Kind: Number}, {Name: "table", Kind: Number}, {Name: "scope", Kind: Number}}},
	Foreign: [][]Foreign{{
		{"gateway", `write "gw"`, false}, {"via", `write "gw"`, false}, {"nexthop", `write "gw"`, false},
		{"metric", `write "priority"`, false}, {"to", `write "dst"`, false}, {"destination", `write "dst"`, false},
		{"dev", "a route leads through the container's interface", false}, {"src", "a route has no source here", false},
	}},
}
