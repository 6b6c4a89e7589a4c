package cni

import "encoding/json"

// Conf is the part of the configuration that all modes share. JSON keys match
// without regard to case, since runtimes differ (containerd: HostPort). What most
// configurations do not have is decoded when it is there: learning a type takes
// encoding/json tens of microseconds, in a process that lives for four thousand.
type Conf struct {
	CNIVersion string          `json:"cniVersion"`
	Name       string          `json:"name"`
	Type       string          `json:"type"`
	IPAM       json.RawMessage `json:"ipam"`
	DNS        json.RawMessage `json:"dns"`
	PrevResult json.RawMessage `json:"prevResult"`

	Internal        bool   `json:"internal"`
	ICC             *bool  `json:"icc"`
	Isolate         bool   `json:"isolate"`
	Names           bool   `json:"names"`
	AcceptRA        *bool  `json:"acceptRA"`
	FirewallBackend string `json:"firewallBackend"`

	Args         json.RawMessage `json:"args"`
	Capabilities json.RawMessage `json:"capabilities"`
	Runtime      RuntimeConfig   `json:"runtimeConfig"`

	// For GC: absent (nil) and null are not the same.
	Valid    json.RawMessage `json:"cni.dev/valid-attachments"`
	ValidOld json.RawMessage `json:"cni.dev/attachments"`
}

// RuntimeConfig is what the runtime gives for the capabilities that the
// configuration declares (CONVENTIONS.md).
type RuntimeConfig struct {
	PortMappings []PortMapping   `json:"portMappings"`
	IPs          []string        `json:"ips"`
	MAC          string          `json:"mac"`
	DNS          json.RawMessage `json:"dns"`
	Aliases      json.RawMessage `json:"aliases"`
	IPRanges     json.RawMessage `json:"ipRanges"`
}

// networkArgs is the args section (CONVENTIONS.md).
type networkArgs struct {
	CNI struct {
		IPs []string `json:"ips"`
		MAC string   `json:"mac"`

		Links     []string `json:"links"`
		Container string   `json:"container"` // of container-share
	} `json:"cni"`
}

// Common returns c, so that a structure that embeds Conf is a [Config].
func (c *Conf) Common() *Conf { return c }

// NoICC tells whether the containers of the network are kept from each other.
func (c *Conf) NoICC() bool { return c.ICC != nil && !*c.ICC }
