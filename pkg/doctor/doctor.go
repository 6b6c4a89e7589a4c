// Package doctor looks at everything that the containers of a host need, and says of
// each thing that is wrong what it is, why it matters and what mends it. What is safe
// and Berth's own it can mend.
//
// The facts are gathered once; a check is a function of them.
package doctor

import (
	"context"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/overlay"
)

// Config says where the doctor looks.
type Config struct {
	Records *attach.Store
	DataDir string // what outlives a reboot
	// Caches are folders in which runtimes keep results, as patterns; nil: those of libcni.
	Caches  []string
	Listen  string // where the host's agent answers
	ConfDir conflist.Dir
	// PluginDirs are where runtimes find plugins; none: nobody knows.
	PluginDirs []string
	// StoreName is the store of the overlay networks, for people. State reads it; nil: it is
	// not asked. Tokens says that it knows the tokens of nodes.
	StoreName string
	State     func(context.Context) (*overlay.State, error)
	Tokens    bool
	// Named says that somebody has said where the store is: else it is read only on a
	// host that takes part in overlay networks.
	Named bool
	Now   func() time.Time
}

// Diagnose looks at the host. With fix it mends what it can, and looks again.
func Diagnose(ctx context.Context, c Config, fix bool) *Report {
	f := c.gather(ctx)
	r := examine(f, checks)
	if !fix {
		return r
	}
	var done []string
	if f.Host.StateFile.bad() { // the other remedies go by the records
		done = c.rebuild(ctx)
		f = c.gather(ctx)
		r = examine(f, checks)
	}
	more := c.mend(ctx, r)
	if len(more) > 0 {
		r = examine(c.gather(ctx), checks)
	}
	r.Done = append(done, more...)
	return r
}

// Problem is what is wrong, why it matters, and what mends it.
type Problem struct {
	What string `json:"what"`
	Why  string `json:"why"`
	Mend string `json:"mend"` // a command, or what to do
	// Networks, by their names, and Containers, by their IDs, are those that it is about; the
	// host, or another one, where there are none.
	Networks   []string `json:"networks,omitempty"`
	Containers []string `json:"containers,omitempty"`
}

// about is a network or a container that a problem is about.
type about struct{ network, container string }

func problem(what, why, mend string, all ...about) Problem {
	p := Problem{What: what, Why: why, Mend: mend}
	for _, a := range all {
		if a.network != "" && !slices.Contains(p.Networks, a.network) {
			p.Networks = append(p.Networks, a.network)
		}
		if a.container != "" && !slices.Contains(p.Containers, a.container) {
			p.Containers = append(p.Containers, a.container)
		}
	}
	return p
}

// check is one thing that the doctor looks at. look returns an error when it could
// not look.
type check struct {
	name string
	look func(*facts) ([]Problem, error)
	fix  []remedy // what is safe to do about its problems
	// overlay says that it is about overlay networks: nothing to look at where there
	// are none.
	overlay bool
}

// checks are all of them, in the order in which they are shown: what causes the
// others comes first.
var checks = []check{
	{"the kernel has what networks need", checkKernel, nil, false},
	{"configurations can be used", checkConflists, nil, false},
	{"the agent runs", checkAgent, nil, true},
	{"the store answers", checkStore, nil, true},
	{"the store has what it had", checkHistory, nil, true},
	{"this host may use its networks", checkRefused, nil, true},
	{"networks work", checkNetworks, nil, true},
	{"VXLAN devices are there and up", checkDevices, nil, true},
	{"the host forwards packets", checkForwarding, []remedy{remedyReload}, false},
	{"bridged frames are not dropped", checkBridgeNF, []remedy{remedyReload}, false},
	{"network policies see every packet", checkPolicies, nil, false},
	{"the firewall sees what pods send", checkBridgedPods, nil, false},
	{"other firewalls let containers through", checkOtherFirewalls, []remedy{remedyReload}, false},
	{"published ports are the containers' alone", checkListeners, nil, false},
	{"only published ports are reached", checkGatewayModes, nil, false},
	{"records are whole", checkStateFile, nil, false},
	{"records have a container", checkRecords, []remedy{remedyGC}, false},
	{"shared networks are there", checkShared, nil, false},
	{"containers have what their records say", checkFaults, []remedy{remedyReload}, false},
	{"nothing is left without a record", checkStrangers, []remedy{remedyGC, remedyReload}, false},
	{"names are answered", checkNames, []remedy{remedyReload}, false},
	{"the MTU fits the way out", checkMTU, nil, false},
	{"other hosts are reached", checkProbes, nil, true},
	{"blocks have free addresses", checkBlocks, nil, true},
	{"subnets are nobody else's", checkOverlaps, nil, false},
	{"the store holds valid data", checkStoreData, nil, true},
}

// Report is what the doctor found.
type Report struct {
	Note string `json:"note,omitempty"`
	// Done is what --fix has done, before these checks.
	Done   []string  `json:"done,omitempty"`
	Checks []Finding `json:"checks"`
}

// Finding is what one check found.
type Finding struct {
	Check    string    `json:"check"`
	OK       bool      `json:"ok"`
	Problems []Problem `json:"problems"`
	Error    string    `json:"error,omitempty"` // why it could not look

	fix []remedy // the check's
}

// examine runs the checks.
func examine(f *facts, checks []check) *Report {
	r := &Report{Checks: []Finding{}}
	if f.unused() {
		r.Note = "This host takes no part in overlay networks: " + f.DataDir + " knows of none."
	}
	for _, c := range checks {
		if c.overlay && f.unused() && f.State == nil && f.StoreErr == nil {
			continue
		}
		problems, err := c.look(f)
		found := Finding{Check: c.name, OK: err == nil && len(problems) == 0, Problems: append([]Problem{}, problems...), fix: c.fix}
		if err != nil {
			found.Error = err.Error()
		}
		r.Checks = append(r.Checks, found)
	}
	return r
}
