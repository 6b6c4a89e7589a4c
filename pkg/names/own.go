package names

import (
	"encoding/json"

	"github.com/berth-cni/berth/pkg/attach"
)

// Own is what a container is called, however often it is made anew: its name, else its
// hostname; empty when it has none but what follows from its ID.
func Own(s Source) string {
	var args cniArgs
	_ = json.Unmarshal(s.CNI, &args) // what is wrong with it is said with the names
	c := &collector{}
	c.own(s, args)
	short := len(attach.ShortID(s.Container))
	for _, name := range c.Names {
		if len(name) < short || !attach.IDStarts(s.Container, name) {
			return name
		}
	}
	return ""
}

// own adds the container's name and hostnames.
func (c *collector) own(s Source, args cniArgs) {
	c.runtimes("K8S_POD_NAME", s.Args["K8S_POD_NAME"])
	c.labels(args, labelName)
	c.runtimes("hostname", args.Hostname)
	c.runtimes("hostname", s.Args["NERDCTL_CNI_DHCP_HOSTNAME"])
	c.labels(args, labelHostname)
}
