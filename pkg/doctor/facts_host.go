package doctor

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/firewall/allow"
	"github.com/berth-cni/berth/pkg/firewall/publish"
	"github.com/berth-cni/berth/pkg/firewall/ruleset"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/host/former"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/rebuild"
)

// hostFacts are what the checks look at of the networks of this host alone.
type hostFacts struct {
	StateFile  stateFile
	Records    []*attach.Attachment // those that can be read
	RecordsErr error                // of those that cannot
	States     map[attach.Key]host.State
	Whys       map[attach.Key]string // why a record is not alive
	Faults     []host.Fault          // of those that are
	Networks   []attach.Network
	Lost       []host.LostLease

	Former    []*former.Leftover // of another suite's containers
	FormerErr error

	Links      host.Links
	Uplink     attach.Interface // of the default route; lo without one
	HostMounts []string         // paths that lead to the host's namespace
	NoVXLAN    bool             // the kernel has none

	FirewallErr error // no backend can be used
	Filters     *ruleset.Ruleset
	FiltersErr  error
	Barred      map[string]error // bridges that other firewalls do not let through
	BridgeNF    map[bool]bool    // whether bridged frames of IPv4 (true) and IPv6 pass the IP firewall

	Names     *names.Status // nil: the agent does not answer
	NamesErr  error
	NamesPort string // the process that has the agent's port, where the agent has another one, or gives no answer
	Questions []question
}

// gatherHost looks at the host once. It runs a few programs, never one for each
// container.
func (c *Config) gatherHost(ctx context.Context) *hostFacts {
	h := &hostFacts{States: map[attach.Key]host.State{}, Whys: map[attach.Key]string{}, Barred: map[string]error{}}
	store := c.Records
	links, err := host.ListLinks()
	h.Links = links
	h.Records, h.RecordsErr = store.List(ctx, "")
	h.StateFile = c.lookAtStateFile(ctx, h)
	h.RecordsErr = errors.Join(h.RecordsErr, err)
	h.classify(ctx, store, c.Now())
	err = store.View(ctx, func(tx *attach.Tx) (err error) {
		h.Networks, err = tx.Networks()
		return err
	})
	if err == nil && h.RecordsErr == nil {
		h.Lost, err = host.LostLeases(ctx, store, h.Records)
	}
	h.RecordsErr = errors.Join(h.RecordsErr, err)
	h.lookAround()
	h.lookAtNetworks(ctx, store.Dir())
	h.Former, h.FormerErr = former.On(c.caches(), rebuild.Namespaces(), h.Records).Find(ctx)
	h.Faults = host.Confirm(ctx, store, h.Faults, c.Now())
	if h.Filters, h.FiltersErr = ruleset.List(ctx); h.FiltersErr == nil {
		h.addUnmarked()
	}
	return h
}

// classify tells which records are alive. One that is not is looked at again when nobody
// works on it: an ADD may not have come as far yet.
func (h *hostFacts) classify(ctx context.Context, store *attach.Store, now time.Time) {
	for _, a := range h.Records {
		what, why := host.StateOf(a, h.Links, now)
		if what == host.Gone {
			if again, err := store.Settle(ctx, a.Key); err != nil {
				what = host.Unknown
			} else {
				what, why = host.StateOf(again, h.Links, now)
			}
		}
		h.States[a.Key], h.Whys[a.Key] = what, why
	}
}

// living are the records that should work.
func (h *hostFacts) living() []*attach.Attachment {
	var all []*attach.Attachment
	for _, a := range h.Records {
		if h.States[a.Key] == host.Alive && !a.Deleting {
			all = append(all, a)
		}
	}
	return all
}

// behind is the network whose bridge it is.
func (h *hostFacts) behind(bridge string) about {
	_, networks := host.Bridges(h.Records)
	if n := networks[bridge]; n != nil {
		return about{network: n.Newest.Network}
	}
	return about{}
}

// lookAround looks at what is not of a network.
func (h *hostFacts) lookAround() {
	if up, _, _, err := link.Uplink(); err == nil {
		h.Uplink = up
	}
	h.BridgeNF = map[bool]bool{true: proc.NetSetting("bridge", "bridge-nf-call-iptables") == "1", false: proc.NetSetting("bridge", "bridge-nf-call-ip6tables") == "1"}
	_, h.FirewallErr = firewall.Choose("auto")
	h.HostMounts = netns.HostMounts(netnsDirs...)
	_, err := os.Stat("/sys/module/vxlan")
	h.NoVXLAN = err != nil && !modulePresent("vxlan")
}

// lookAtNetworks looks at what containers need, in the order in which one thing needs
// the other.
func (h *hostFacts) lookAtNetworks(ctx context.Context, stateDir string) {
	living := h.living()
	sorted, networks := host.Bridges(living)
	for _, bridge := range sorted {
		rules := &networks[bridge].Rules
		if err := (&allow.Forward{Bridge: rules.Bridge, Group: rules.Group, Tunnel: rules.Overlay, Names: rules.Names}).Check(ctx, nil); err != nil {
			h.Barred[bridge] = err
		}
	}
	h.Names, h.NamesErr = names.Call(ctx, stateDir, names.Request{Do: names.DoStatus})
	h.Faults = slices.DeleteFunc(host.Faults(ctx, living, h.NamesErr == nil), func(x host.Fault) bool {
		return x.Kind == "forward" || x.Kind == "forwarding" // checks of their own tell of these
	})
	if h.NamesErr == nil {
		h.Questions = askNames(living)
		unheard := func(q question) bool { return q.Err != nil && !slices.Contains(h.Names.Bridges, q.Bridge) }
		if slices.ContainsFunc(h.Questions, unheard) || len(h.Names.Deaf) > 0 || h.Names.Port != names.Port {
			h.NamesPort = whoListens(names.Port)
		}
	}
}

// whoListens is the process other than the agent that has the port of all addresses; empty
// when there is none.
func whoListens(port uint16) string {
	for _, proto := range []string{"udp", "tcp"} {
		if holder, err := publish.Listener(attach.Port{HostPort: port, Protocol: proto}, ""); err == nil && holder != "" && !strings.HasPrefix(holder, "berth (") {
			return holder
		}
	}
	return ""
}

// addUnmarked adds the faults of the iptables backend: containers that no rule is of.
func (h *hostFacts) addUnmarked() {
	for _, a := range h.living() {
		if r := firewall.RulesOf(a); r != nil && r.Backend == firewall.IPTables && len(a.Addresses) > 0 && !h.Filters.Marks[a.Hash()] {
			h.Faults = append(h.Faults, host.Fault{Attachment: a, Kind: r.Kind(), Err: errors.New("iptables has no rule with its mark " + a.Hash())})
		}
	}
}

// families tells of which families living containers behind a gateway of this host are.
func (h *hostFacts) families() (v4, v6 bool) {
	for _, a := range h.living() {
		for _, s := range a.Steps {
			if b, ok := s.(*link.Bridge); !ok || !b.Gateway {
				continue
			}
			for _, addr := range a.Addresses {
				v4 = v4 || addr.Prefix.Addr().Is4()
				v6 = v6 || addr.Prefix.Addr().Is6()
			}
		}
	}
	return v4, v6
}

// ownDevices are the interfaces whose routes are our own.
func (h *hostFacts) ownDevices() []string {
	var own []string
	for _, n := range h.Networks {
		own = append(own, n.Link)
	}
	sorted, _ := host.Bridges(h.Records)
	return append(own, sorted...)
}

// netnsDirs are where runtimes keep the namespaces of their containers. Elsewhere
// (Docker, in a folder of its own) the host's may be mounted on purpose.
var netnsDirs = []string{"/run/netns/", "/var/run/netns/", "/run/user/"}
