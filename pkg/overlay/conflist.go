package overlay

import "encoding/json"

// Plugin is the CNI type of overlay networks.
const Plugin = "vxlan-overlay"

// Conflist is the network's CNI configuration, for a runtime's folder. It holds the name and
// whether containers find each other by theirs; all else comes from the store, so that it
// is the same on every host. kind is [Plugin], or the second name that an agent has installed
// it by; mode is the plugin's, which is each host's to choose.
func (n *Network) Conflist(kind, mode string) []byte {
	type plugin struct {
		Type         string          `json:"type"`
		Mode         string          `json:"mode,omitempty"`
		Names        bool            `json:"names,omitempty"`
		Capabilities map[string]bool `json:"capabilities"`
	}
	p := plugin{kind, mode, n.Names, map[string]bool{"portMappings": true, "ips": true, "mac": true}}
	if n.Names {
		p.Capabilities["aliases"] = true
	}
	data, err := json.MarshalIndent(struct {
		Version  string   `json:"cniVersion"` // what runtimes that know no cniVersions speak
		Versions []string `json:"cniVersions"`
		Name     string   `json:"name"`
		Plugins  []plugin `json:"plugins"`
	}{"1.0.0", []string{"1.0.0", "1.1.0"}, n.Name, []plugin{p}}, "", "  ")
	if err != nil {
		panic(err) // it is made of strings
	}
	return append(data, '\n')
}
