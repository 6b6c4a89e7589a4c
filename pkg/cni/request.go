package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/internal/schema"
	"github.com/berth-cni/berth/pkg/ipam"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/containernetworking/cni/pkg/types"
)

// Request is one verb with its environment and configuration.
type Request struct {
	*CmdArgs
	Conf *Conf
	Args map[string]string // CNI_ARGS
	IPAM *ipam.Config      // of the ipam section, set before [Config.Plan]; empty when it is wrong

	ctx    context.Context
	mode   *Mode
	config Config
	prev   *previous

	args      networkArgs
	dns       types.DNS
	wantedMAC string
	wantedIPs []netip.Addr
	names     *names.Register // nil: none
	served    served
	problems  []error
	warnings  []string // that [Request.Plan] has not written yet
}

// served is what the plan has taken care of. What is asked for beside that is refused.
type served struct{ ips, ranges, ports, names bool }

// NewRequest is [Mode.Request] for a mode that has nothing but a configuration.
func NewRequest(args *CmdArgs, config Config) (*Request, error) {
	return newRequest(args, config, &Mode{})
}

func newRequest(args *CmdArgs, config Config, mode *Mode) (*Request, error) {
	r := &Request{CmdArgs: args, Conf: config.Common(), config: config, mode: mode, ctx: context.Background()}
	err := r.keys().Decode("", args.StdinData, config)
	if err == nil {
		err = r.decodeOptional()
	}
	if bad := validName(r.Conf.Name); bad != nil && err == nil {
		err = badConfig("name: %q: %w", r.Conf.Name, bad)
	}
	var bad error
	r.Args, bad = parseArgs(args.Args)
	return r, errors.Join(err, bad)
}

// Refuse notes a problem of the configuration: the key, its value and what is
// allowed. All problems are reported together.
func (r *Request) Refuse(key string, value any, format string, args ...any) {
	r.problems = append(r.problems, errors.New(about(key, value, format, args)))
}

// Warn notes what is not done of what the configuration asks for, in the form of
// [Request.Refuse]. [Request.Plan] writes it.
func (r *Request) Warn(key string, value any, format string, args ...any) {
	r.warnings = append(r.warnings, about(key, value, format, args))
}

func about(key string, value any, format string, args []any) string {
	if s, ok := value.(string); ok {
		value = fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%s: %v: %s", key, value, fmt.Sprintf(format, args...))
}

// flush writes the warnings.
func (r *Request) flush() {
	for _, w := range r.warnings {
		Warn("network %s: %s", r.Conf.Name, w)
	}
	r.warnings = nil
}

// Refused tells whether there is a problem already.
func (r *Request) Refused() bool { return len(r.problems) > 0 }

// Chained tells whether an earlier plugin of the chain has made the interface, which
// the mode then only adds to: see [Mode.Chains].
func (r *Request) Chained() bool { return r.prev.chained() }

// HostIfName is the host's interface that leads to a container of an earlier plugin;
// empty when its result has none.
func (r *Request) HostIfName() string { return r.prev.hostIf() }

// HostEnd is the name of the host's end of the interface that the mode makes.
func (r *Request) HostEnd() string { return r.key(attach.Main).HostIfName() }

// Records are those of all attachments of this host.
func (r *Request) Records() ([]*attach.Attachment, error) {
	return attach.New("", Decode).List(r.ctx, "")
}

// Record is that of one attachment; [attach.ErrNotFound] when there is none.
func (r *Request) Record(k attach.Key) (*attach.Attachment, error) {
	return attach.New("", Decode).Get(r.ctx, k)
}

// decodeOptional decodes what most configurations do not have. The runtime's dns
// wins over the network's.
func (r *Request) decodeOptional() error {
	var runtime struct { // other names than the network's: CONVENTIONS.md
		Servers  []string `json:"servers"`
		Searches []string `json:"searches"`
		Options  []string `json:"options"`
	}
	err := errors.Join(r.optional("args", r.Conf.Args, &r.args), r.optional("dns", r.Conf.DNS, &r.dns),
		r.optional("runtimeConfig.dns", r.Conf.Runtime.DNS, &runtime))
	if dns := (types.DNS{Nameservers: runtime.Servers, Search: runtime.Searches, Options: runtime.Options}); !dns.IsEmpty() {
		r.dns = dns
	}
	return err
}

// optional decodes a section of the configuration that may be absent or null. An
// object without members leaves v as it is.
func (r *Request) optional(key string, raw json.RawMessage, v any) error {
	if len(raw) == 0 {
		return nil
	}
	return r.keys().Section(key).Decode(key, raw, v)
}

// Plan reads what all modes share, has the mode make its plan and reports every
// problem of the configuration together.
func (r *Request) Plan() ([]attach.Step, error) {
	defer r.flush()
	var err error
	if r.prev, err = r.previous(); err != nil {
		return nil, err
	}
	if r.Chained() && !r.mode.Chains && !r.mode.Unrecorded {
		return nil, badConfig("prevResult: an earlier plugin of the chain has made %s: %s cannot", r.IfName, r.mode.Name)
	}
	if n := r.prev.interfaces(); n > 0 && r.mode.Joins {
		r.Refuse("prevResult.interfaces", n, "want %s to be the first plugin of its chain", r.mode.Name)
	}
	if r.IPAM, err = r.readIPAM(); err != nil {
		r.IPAM = &ipam.Config{}
		r.problems = append(r.problems, err)
	}
	r.wantedMAC, r.wantedIPs = r.mac(), r.ips()
	r.look()
	steps, err := r.config.Plan(r)
	if err != nil {
		return nil, err
	}
	r.refuseUnserved()
	if err := errors.Join(r.problems...); err != nil {
		return nil, configError{err}
	}
	return present(steps), nil
}

// refuseUnserved refuses what is asked for and no step of the plan gives. What is
// asked of the plugin that makes the interface is no business of one that works beside
// it.
func (r *Request) refuseUnserved() {
	if !r.served.ranges && !r.Chained() && !r.Refused() {
		r.refuseCapability("ipRanges", r.Conf.Runtime.IPRanges, "no ipam section is here to take them")
	}
	if r.mode.Leases {
		return
	}
	r.refuseNames()
	if r.mode.Unrecorded {
		return
	}
	r.refuseIPs()
	if n := len(r.Conf.Runtime.PortMappings); n > 0 && !r.served.ports {
		r.Refuse("runtimeConfig.portMappings", n, "%s publishes no ports", r.mode.Name)
	}
}

// FirewallBackend resolves firewallBackend, or the word of another key that was
// given in its place. A word that is none is noted; the error is that the host
// lacks the backend.
func (r *Request) FirewallBackend(key, word string) (string, error) {
	if r.Conf.FirewallBackend != "" {
		key, word = "firewallBackend", r.Conf.FirewallBackend
	}
	switch word {
	case "", "auto", firewall.NFTables, firewall.IPTables:
		return firewall.Choose(word)
	}
	r.Refuse(key, word, "want auto, nftables or iptables")
	return "", nil
}

// refuseCapability refuses a capability that is asked for and cannot be had. Zero
// values ask for nothing.
func (r *Request) refuseCapability(name string, raw json.RawMessage, why string) {
	if !asksFor(raw) {
		return
	}
	r.Refuse("runtimeConfig."+name, string(raw), "%s; or remove %q from capabilities", why, name)
}

// asksFor tells whether a capability's value asks for anything.
func asksFor(raw json.RawMessage) bool {
	return len(raw) > 0 && !schema.IsZero(raw)
}

// key names the attachment of the request.
func (r *Request) key(role attach.Role) attach.Key {
	return attach.Key{Network: r.Conf.Name, Container: r.ContainerID, IfName: r.IfName, Role: role}
}
