// Package bridged is what the modes share that put containers on a bridge of the
// host: the keys of their configuration, and how they meet the firewall.
package bridged

import (
	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/ipam"
)

// Conf are the shared keys, those of the reference bridge (v1.9.1), with what is ours
// in [cni.Conf].
type Conf struct {
	cni.Conf
	IsDefaultGateway bool   `json:"isDefaultGateway"`
	IPMasq           bool   `json:"ipMasq"`
	IPMasqBackend    string `json:"ipMasqBackend"`
	HairpinMode      bool   `json:"hairpinMode"`
	PromiscMode      bool   `json:"promiscMode"`
	MACSpoofCheck    bool   `json:"macspoofchk"`
	EnableDAD        bool   `json:"enabledad"`
	PortIsolation    bool   `json:"portIsolation"`
}

// Validate notes the problems of the shared keys.
func (c *Conf) Validate(r *cni.Request) {
	if c.HairpinMode && c.PromiscMode {
		r.Refuse("hairpinMode", true, "cannot be together with promiscMode")
	}
}

// Policy is what a network lets through, and what not.
type Policy struct {
	Internal bool // nothing in or out
	Isolate  bool // nothing to other isolated networks
	NoICC    bool // nothing between its containers
}

// Rules are the firewall's for a container that the host reaches by an interface. The
// error is that the host lacks the firewall.
func (c *Conf) Rules(r *cni.Request, hostIf string, p Policy) (*firewall.Rules, error) {
	backend, err := r.FirewallBackend("ipMasqBackend", c.IPMasqBackend)
	return &firewall.Rules{Backend: backend, Bridge: hostIf, Masquerade: c.IPMasq && !p.Internal,
		Internal: p.Internal, Isolate: p.Isolate, NoICC: p.NoICC, Names: r.WantsNames()}, err
}

// Settings are the words of which the firewall keeps something for the network.
func (c *Conf) Settings(p Policy) []string {
	var words []string
	for _, s := range []struct {
		on   bool
		word string
	}{{p.Internal, "internal"}, {p.Isolate, "isolate"}, {p.NoICC, "noicc"}, {c.Names, "names"}} {
		if s.on {
			words = append(words, s.word)
		}
	}
	return words
}

// Ports is [cni.Request.Ports], unless nothing comes in.
func (c *Conf) Ports(r *cni.Request, p Policy, conf *ipam.Config) attach.Step {
	if p.Internal {
		r.IgnorePorts("it is internal")
		return nil
	}
	return r.Ports(conf)
}
