package schema

// foreign are words of others in a plugin's configuration: of the reference's other
// plugins, Docker and podman, and of other places in a CNI configuration.
var foreign = []Foreign{
	{"isolated", `write "isolate": true`, true}, {"isolation", `write "isolate": true`, true},
	{"ingressPolicy", `it is of the reference's firewall: write "isolate": true, or chain that plugin`, true},
	{"enableICC", `write "icc": false`, true}, {"com.docker.network.bridge.enable_icc", `write "icc": false`, true}, {"interContainerCommunication", `write "icc": false`, true},
	{"com.docker.network.bridge.host_binding_ipv4", "the runtime says the address with each port: hostIP", true},
	{"com.docker.network.bridge.gateway_mode_ipv4", `write "gatewayModeIPv4"`, true}, {"com.docker.network.bridge.gateway_mode_ipv6", `write "gatewayModeIPv6"`, true},
	{"gatewayMode", `write "gatewayModeIPv4" and "gatewayModeIPv6"`, true},
	{"com.docker.network.bridge.enable_ip_masquerade", `write "ipMasq"`, false}, {"com.docker.network.driver.mtu", `write "mtu"`, false},
	{"com.docker.network.bridge.name", `write "bridge"`, false}, {"ipMasquerade", `write "ipMasq"`, false}, {"masquerade", `write "ipMasq"`, false},
	{"hairpin", `write "hairpinMode"`, false}, {"promiscuousMode", `write "promiscMode"`, false}, {"defaultGateway", `write "isDefaultGateway": true, and "gateway" in ipam`, false},
	{"networkInterface", `write "bridge", or "master" for macvlan`, false}, {"driver", `write "type"`, false}, {"backend", `write "firewallBackend"`, false},
	{"dnsEnabled", `write "names": true`, false}, {"enableIPv6", "write an IPv6 subnet in ipam.ranges", false}, {"ipv6", "write an IPv6 subnet in ipam.ranges", false},
	{"dadTransmits", `write "enabledad"`, false}, {"macSpoofCheck", `write "macspoofchk": true`, true}, {"ipSpoofCheck", `write "ipspoofchk": true`, true},
	{"vlanID", `write "vlan"`, true}, {"vlanTag", `write "vlan"`, true}, {"vlans", `write "vlan", or "vlanTrunk": [{"id": NUMBER}]`, true}, {"trunk", `write "vlanTrunk"`, false},

	{"subnet", "write it in ipam", false}, {"subnets", "write them in ipam.ranges", false}, {"gateway", "write it in ipam", false}, {"ranges", "write them in ipam", false},
	{"rangeStart", "write it in ipam", false}, {"rangeEnd", "write it in ipam", false}, {"exclude", "write it in ipam", false}, {"routes", "write them in ipam", false},
	{"dataDir", "addresses are kept with the attachments, in /run/berth; the environment variable BERTH_STATE_DIR names another folder", false},
	{"nameservers", `write "dns": {"nameservers": ["ADDRESS"]}`, false}, {"resolvConf", `write "dns": {"nameservers": ["ADDRESS"]}`, false},

	{"portMappings", inRuntimeConfig, false}, {"ips", inRuntimeConfig, false}, {"aliases", inRuntimeConfig, false}, {"ipRanges", inRuntimeConfig, false},
	{"bandwidth", "chain the reference's bandwidth behind this plugin", false}, {"ingressRate", "chain the reference's bandwidth behind this plugin", false},
	{"egressRate", "chain the reference's bandwidth behind this plugin", false},
	{"sysctl", "chain the reference's tuning behind this plugin", false}, {"txQLen", "chain the reference's tuning behind this plugin", false},
	{"snat", "a published port needs none: the client's address is kept, but for a container's own and the host's", false},
	{"masqAll", "the client's address is kept, but for a container's own and the host's", false},
	{"markMasqBit", "no mark is set", false}, {"externalSetMarkChain", "no mark is set", false},
	{"conditionsV4", "a port is published without conditions: chain the reference's portmap, and take portMappings from capabilities here", true},
	{"conditionsV6", "a port is published without conditions: chain the reference's portmap, and take portMappings from capabilities here", true},
	{"firewallZone", "a bridge is put into firewalld's zone trusted", false}, {"iptablesAdminChainName", "rules of your own go before those of Berth in a table or chain of yours", false},
}

const inRuntimeConfig = `the runtime gives it: declare it in "capabilities"`

// Keys of one plugin that another one has not.
var (
	notMacvlan = []Foreign{{"master", "it is of macvlan and ipvlan", false}, {"hostShim", "it is of macvlan", false}, {"linkInContainer", "it is of macvlan and ipvlan", false},
		{"bcqueuelen", "it is of macvlan", false}, {"flag", "it is of ipvlan", false},
		{"mac", `the runtime gives it: declare it in "capabilities", or write args.cni.mac`, false}}
	ofIPvlan  = []Foreign{{"flag", `it is of ipvlan: write "mode"`, true}}
	notIPvlan = []Foreign{{"hostShim", "it is of macvlan", false}, {"bcqueuelen", "it is of macvlan", false},
		{"mac", "an ipvlan has the MAC of its master", false}, {"portIsolation", `write "flag": "private"`, true}}
	notBridge = []Foreign{{"isGateway", "it is of bridge", false}, {"forceAddress", "it is of bridge", false}, {"preserveDefaultVlan", "it is of bridge", false},
		{"disableContainerInterface", "it is of bridge", false}}
	notBridged = []Foreign{{"bridge", "it is of bridge", false}, {"isDefaultGateway", "the gateway is the network's own: write a route in ipam", false},
		{"ipMasq", "containers are on the master's network, past the host's firewall", false}, {"hairpinMode", "it is of bridge", false}, {"promiscMode", "it is of bridge", false},
		{"vlan", `write "master": "INTERFACE.VLAN"`, true}, {"vlanTrunk", `write "master": "INTERFACE.VLAN"`, true},
		{"macspoofchk", "what containers send goes past the host's firewall", true}, {"ipspoofchk", "what containers send goes past the host's firewall", true},
		{"portIsolation", `write "mode": "private"`, true}, {"parent", `write "master"`, false},
		{"gatewayModeIPv4", "containers are on the master's network, past the host's firewall", true}, {"gatewayModeIPv6", "containers are on the master's network, past the host's firewall", true}}
)
