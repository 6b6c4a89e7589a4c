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
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/containernetworking/cni/pkg/types"
)

// Version is the suite's version, set by the linker.
var Version = "devel"

// Versions are the versions of the specification that every plugin speaks, the
// oldest first.
var Versions = []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

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

// Verifier is a [Config] that knows more of the host than its steps do.
type Verifier interface {
	// Verify tells whether what the attachment stands on is there.
	Verify(*Request, *attach.Attachment) error
	// Available tells whether an ADD could work now. What is only worth a warning, it
	// says by [Warn].
	Available(*Request) error
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
	// NamesBridge is the host's interface by which the containers' questions for names
	// come in, to a gateway that is the host's. Empty: the mode has no names.
	NamesBridge string
	// NoPorts says why published ports are ignored; empty: they are not.
	NoPorts string
	// MAC is that of the container's interface when nobody asked for one; empty: one
	// that follows from the address.
	MAC string
	// Steps make the interface, after IPAM has given the addresses.
	Steps []attach.Step
	// Chained are the steps for an interface that an earlier plugin of the chain
	// made. hostIf is that interface's name on the host, if it has one. nil: the mode
	// makes the interface itself.
	Chained func(hostIf string) []attach.Step
	// Once are steps of the network, before the others.
	Once []attach.Step
}

// Main runs a plugin: one verb, from the environment and stdin, with the answer
// on stdout. It does not return.
func Main(m Mode) {
	p := &plugin{Mode: m, trace: newTrace()}
	p.main(verbs{add: p.add, del: p.del, check: p.check, gc: p.gc, status: p.status})
}

// verbs are what a plugin does.
type verbs struct{ add, del, check, gc, status func(*Request) error }

// plugin is one run of a mode.
type plugin struct {
	Mode
	*trace
	ctx        context.Context
	cniVersion string
}

// main runs the verb of CNI_COMMAND and ends the process.
//
// The CNI library has a dispatcher, too. It decodes the configuration twice before
// the plugin does, compiles regular expressions at start, and compares the
// namespaces after the work is done; that takes 0.15 ms, and is too late.
func (p *plugin) main(v verbs) {
	debug.SetGCPercent(-1) // the process ends before a collection would pay
	p.ctx = newInterruptible(context.Background())
	if err := p.dispatch(v); err != nil {
		printError(p.cniVersion, code(err))
		os.Exit(1)
	}
	os.Exit(0)
}

func (p *plugin) dispatch(v verbs) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("bug in %s: %v\n%s", p.Name, r, debug.Stack())
		}
	}()
	command := os.Getenv("CNI_COMMAND")
	switch command {
	case "ADD":
		return p.run(v.add, needs{container: true, netns: true}, "0.1.0")
	case "DEL":
		return p.run(v.del, needs{container: true, lenient: true}, "0.1.0")
	case "CHECK":
		return p.run(v.check, needs{container: true, netns: true}, "0.4.0")
	case "GC":
		return p.run(v.gc, needs{}, "1.1.0")
	case "STATUS":
		return p.run(v.status, needs{}, "1.1.0")
	case "VERSION":
		return json.NewEncoder(os.Stdout).Encode(map[string]any{
			"cniVersion": Versions[len(Versions)-1], "supportedVersions": Versions})
	case "": // as the reference plugins do; nerdctl reads it
		fmt.Fprintf(os.Stderr, "CNI plugin %s (berth) %s\nCNI protocol versions supported: %s\n",
			p.Name, Version, strings.Join(Versions, ", "))
		return nil
	}
	return badEnvironment("CNI_COMMAND: %q: want ADD, DEL, CHECK, GC, STATUS or VERSION", command)
}

// run reads the request and runs the verb, which exists since a version of the
// specification.
func (p *plugin) run(verb func(*Request) error, n needs, since string) error {
	args, err := readArgs(n)
	if err != nil {
		return err
	}
	r, err := NewRequest(args, p.Config())
	p.cniVersion = r.Conf.CNIVersion
	if err != nil && !(n.lenient && validName(r.Conf.Name) == nil) {
		return err
	}
	if err := checkVersion(p.cniVersion, since); err != nil {
		return err
	}
	p.did("read")
	return verb(r)
}

func (p *plugin) store() *attach.Store { return attach.New("", Decode) }

// checkVersion tells whether this plugin speaks the configuration's version, and
// that version has the verb.
func checkVersion(version, since string) error {
	if version == "" {
		version = Versions[0] // SPEC 0.1.0 had no such key
	}
	i := slices.Index(Versions, version)
	if i < 0 {
		return types.NewError(types.ErrIncompatibleCNIVersion,
			fmt.Sprintf("cniVersion: %q: want one of %s", version, strings.Join(Versions, ", ")), "")
	}
	if i < slices.Index(Versions, since) {
		return types.NewError(types.ErrIncompatibleCNIVersion,
			fmt.Sprintf("cniVersion: %q: this verb exists since %s", version, since), "")
	}
	return nil
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
// Warn tells the runtime's log something that is no error.
func Warn(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "berth: "+format+"\n", args...)
}
