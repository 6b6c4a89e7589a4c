// Package cni is the protocol (CNI SPEC 1.1.0): it reads what a runtime asks for,
// has the attachment added, deleted or checked, and answers. A plugin is a [Mode]:
// its configuration, and the steps that follow from it.
package cni

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

// Version is the suite's version, set by the linker.
var Version = "devel"

// Versions are the versions of the specification that every plugin speaks.
var Versions = version.PluginSupports("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")

// Mode is what one plugin says of itself.
type Mode struct {
	// Name is the plugin's name in the records, and the CNI type.
	Name string
	// Config returns an empty configuration, with the mode's defaults.
	Config func() Config
}

// Config is a mode's configuration: a struct that embeds [Conf].
type Config interface {
	// Common is the part that all modes share; [Conf] has it.
	Common() *Conf
	// Plan turns the configuration into what an ADD is to make. It notes what is
	// wrong with it by [Request.Refuse]; its own errors are about the host.
	Plan(*Request) (*Plan, error)
}

// Plan is what an ADD is to make.
type Plan struct {
	// Network is what the host remembers: the link and the settings.
	Network attach.Network
	// Gateway gives each address a gateway, the first of its subnet, where IPAM gave
	// none; DefaultRoute adds a route to everywhere by it, unless IPAM gave one.
	Gateway, DefaultRoute bool
	// Internal drops every default route.
	Internal bool
	// Steps make the interface, after IPAM has given the addresses.
	Steps []attach.Step
	// Chained are the steps for an interface that an earlier plugin of the chain
	// made. hostIf is that interface's name on the host, if it has one.
	Chained func(hostIf string) []attach.Step
	// Once are steps that only the first attachment of a network needs, before the
	// others.
	Once []attach.Step
}

// Main runs a plugin: one verb, from the environment and stdin, with the answer
// on stdout. It does not return.
func Main(m Mode) {
	p := &plugin{Mode: m, trace: newTrace()}
	p.main(skel.CNIFuncs{
		Add:    p.run(p.add),
		Del:    p.runLenient(p.del),
		Check:  p.run(p.check),
		GC:     p.run(p.gc),
		Status: p.run(p.status),
	})
}

// main hands the verbs to the CNI library, which calls one, and ends the process.
func (p *plugin) main(verbs skel.CNIFuncs) {
	debug.SetGCPercent(-1) // the process ends before a collection would pay
	// The CNI library compares the namespaces after the work is done, and then
	// fails; Berth does it first. The library takes this for "leave it to me".
	os.Setenv("CNI_NETNS_OVERRIDE", "1")
	p.ctx = newInterruptible(context.Background())
	err := skel.PluginMainFuncsWithError(verbs, Versions, fmt.Sprintf("CNI plugin %s (berth) %s", p.Name, Version))
	if err != nil {
		printError(p.cniVersion, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// plugin is one run of a mode.
type plugin struct {
	Mode
	*trace
	ctx        context.Context
	cniVersion string
}

func (p *plugin) store() *attach.Store { return attach.New("", Decode) }

// run wraps a verb: the request is read first, and its error gets a code. A panic
// is an answer too.
func (p *plugin) run(verb func(*Request) error) func(*skel.CmdArgs) error {
	return p.wrap(verb, false)
}

// runLenient is run for DEL, which works from the record: what is wrong with
// today's configuration does not matter to it.
func (p *plugin) runLenient(verb func(*Request) error) func(*skel.CmdArgs) error {
	return p.wrap(verb, true)
}

func (p *plugin) wrap(verb func(*Request) error, lenient bool) func(*skel.CmdArgs) error {
	return func(args *skel.CmdArgs) (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = code(fmt.Errorf("bug in %s: %v\n%s", p.Name, r, debug.Stack()))
			}
		}()
		req, err := NewRequest(args, p.Config())
		p.did("read")
		p.cniVersion = req.Conf.CNIVersion
		if err != nil && !lenient {
			return code(err)
		}
		if err := verb(req); err != nil {
			return code(err)
		}
		return nil
	}
}

// printError writes the error as SPEC section 5 has it. The library's own printer
// leaves out cniVersion.
func printError(cniVersion string, err *types.Error) {
	if cniVersion == "" {
		cniVersion = "1.1.0"
	}
	_ = json.NewEncoder(os.Stdout).Encode(struct {
		CNIVersion string `json:"cniVersion"`
		*types.Error
	}{cniVersion, err})
}

// warn tells the person behind the runtime something that is not an error.
func warn(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "berth: "+format+"\n", args...)
}
