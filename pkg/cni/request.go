package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/ipam"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/containernetworking/cni/pkg/types"
)

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
	FirewallBackend string `json:"firewallBackend"`

	Args    json.RawMessage `json:"args"`
	Runtime RuntimeConfig   `json:"runtimeConfig"`

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
	Bandwidth    json.RawMessage `json:"bandwidth"`
	IPRanges     json.RawMessage `json:"ipRanges"`
}

// networkArgs is the args section (CONVENTIONS.md).
type networkArgs struct {
	CNI struct {
		IPs []string `json:"ips"`
		MAC string   `json:"mac"`

		Links []string `json:"links"`
	} `json:"cni"`
}

// Common returns c, so that a structure that embeds Conf is a [Config].
func (c *Conf) Common() *Conf { return c }

// Request is one verb with its environment and configuration.
type Request struct {
	*CmdArgs
	Conf *Conf
	Args map[string]string // CNI_ARGS
	IPAM *ipam.Config      // set before [Config.Plan]; empty when it is wrong

	config Config
	// leaseOnly is set for the IPAM plugin, which gets another plugin's whole
	// configuration: what that one has to do with it is no business of ours.
	leaseOnly bool

	args      networkArgs
	dns       types.DNS
	wantedMAC string
	wantedIPs []netip.Addr
	names     *names.Register // nil: none
	problems  []error
}

// NewRequest reads the configuration and CNI_ARGS. The request is usable in spite
// of an error, as far as it could be read: for DEL, which must not fail on them.
func NewRequest(args *CmdArgs, config Config) (*Request, error) {
	r := &Request{CmdArgs: args, Conf: config.Common(), config: config}
	err := json.Unmarshal(args.StdinData, config)
	if err != nil {
		err = fmt.Errorf("decode configuration: %w", err)
	}
	if err == nil {
		err = r.decodeOptional()
	}
	if bad := validName(r.Conf.Name); bad != nil && err == nil {
		err = configError{fmt.Errorf("name: %q: %w", r.Conf.Name, bad)}
	}
	var bad error
	r.Args, bad = parseArgs(args.Args)
	return r, errors.Join(err, bad)
}

// Refuse notes a problem of the configuration: the key, its value and what is
// allowed. All problems are reported together.
func (r *Request) Refuse(key string, value any, format string, args ...any) {
	if s, ok := value.(string); ok {
		value = fmt.Sprintf("%q", s)
	}
	r.problems = append(r.problems, fmt.Errorf("%s: %v: %s", key, value, fmt.Sprintf(format, args...)))
}

// decodeOptional decodes what most configurations do not have. The runtime's dns
// wins over the network's.
func (r *Request) decodeOptional() error {
	var runtime struct { // other names than the network's: CONVENTIONS.md
		Servers  []string `json:"servers"`
		Searches []string `json:"searches"`
		Options  []string `json:"options"`
	}
	err := errors.Join(optional("args", r.Conf.Args, &r.args), optional("dns", r.Conf.DNS, &r.dns),
		optional("runtimeConfig.dns", r.Conf.Runtime.DNS, &runtime))
	if dns := (types.DNS{Nameservers: runtime.Servers, Search: runtime.Searches, Options: runtime.Options}); !dns.IsEmpty() {
		r.dns = dns
	}
	return err
}

// optional decodes a section of the configuration that may be absent or null. An
// object without members leaves v as it is.
func optional(key string, raw json.RawMessage, v any) error {
	if len(raw) == 0 {
		return nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("decode %s: %w", key, err)
	}
	return nil
}

// Plan reads the ipam section, has the mode make its plan and reports every
// problem of the configuration together.
func (r *Request) Plan() (*Plan, error) {
	var err error
	if r.IPAM, err = ipam.Parse(r.Conf.IPAM); err != nil {
		r.IPAM = &ipam.Config{}
		r.problems = append(r.problems, err)
	}
	plan, err := r.config.Plan(r)
	if err != nil {
		return nil, err
	}
	r.wantedMAC, r.wantedIPs = r.mac(), r.requestedIPs()
	if !r.leaseOnly {
		r.readNames(plan)
	}
	return plan, r.validate()
}

// validate checks what all modes share, with the problems that were noted.
func (r *Request) validate() error {
	r.refuseCapability("ipRanges", r.Conf.Runtime.IPRanges, notBuilt)
	if !r.leaseOnly {
		r.refuseCapability("bandwidth", r.Conf.Runtime.Bandwidth, notBuilt)
	}
	if err := errors.Join(r.problems...); err != nil {
		return configError{err}
	}
	return nil
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

const notBuilt = "this capability is not part of this version"

// refuseCapability refuses a capability that is asked for and cannot be had. Zero
// values ask for nothing.
func (r *Request) refuseCapability(name string, raw json.RawMessage, why string) {
	var v any
	if len(raw) == 0 || json.Unmarshal(raw, &v) == nil && isZero(v) {
		return
	}
	r.Refuse("runtimeConfig."+name, string(raw), "%s; or remove %q from capabilities", why, name)
}

func isZero(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case float64:
		return v == 0
	case string:
		return v == ""
	case []any:
		return !slices.ContainsFunc(v, func(x any) bool { return !isZero(x) })
	case map[string]any:
		for _, x := range v {
			if !isZero(x) {
				return false
			}
		}
		return true
	}
	return false
}

// key names the attachment of the request.
func (r *Request) key(role attach.Role) attach.Key {
	return attach.Key{Network: r.Conf.Name, Container: r.ContainerID, IfName: r.IfName, Role: role}
}

// openNetns opens CNI_NETNS and makes sure that it is not the host's, which is the
// one that the plugin runs in.
func (r *Request) openNetns() (*link.Netns, error) {
	ns, err := link.OpenNetns(r.Netns)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, badEnvironment("CNI_NETNS: %q: there is no such namespace", r.Netns)
	}
	if err != nil {
		return nil, err
	}
	own, err := ns.IsOwn()
	if err == nil && own {
		err = badEnvironment("CNI_NETNS: %q is the host's own namespace, want a container's", r.Netns)
	}
	if err != nil {
		ns.Close()
		return nil, err
	}
	return ns, nil
}

// requestedIPs are the addresses asked for: by the capability, else by args.cni,
// else by CNI_ARGS.
func (r *Request) requestedIPs() []netip.Addr {
	key, ips := "runtimeConfig.ips", r.Conf.Runtime.IPs
	if len(ips) == 0 {
		key, ips = "args.cni.ips", r.args.CNI.IPs
	}
	if len(ips) == 0 && r.Args["IP"] != "" {
		key, ips = "CNI_ARGS IP", strings.Split(r.Args["IP"], ",")
	}
	if len(ips) == 0 {
		return nil
	}
	addrs, err := ipam.ParseRequested(ips)
	if err != nil {
		r.problems = append(r.problems, fmt.Errorf("%s: %w", key, err))
	} else if _, lo := r.config.(*Loopback); r.IPAM.Empty() && len(r.problems) == 0 && !lo { // lo is beside the interface that the address is for
		r.Refuse(key, strings.Join(ips, ", "), "the network has no ipam section")
	}
	return addrs
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
	hw, err := net.ParseMAC(mac)
	if err != nil || len(hw) != 6 || hw[0]&1 != 0 || hw.String() == "00:00:00:00:00:00" {
		r.Refuse(key, mac, "want a unicast MAC of six bytes such as 02:42:ac:11:00:02")
	}
	return hw.String()
}
