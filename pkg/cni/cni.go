// Package cni is the protocol (CNI SPEC 1.1.0): it reads what a runtime asks for,
// has the attachment added, deleted or checked, and answers. A plugin is a [Mode]:
// its configuration, and the steps that follow from it.
package cni

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
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

// Main runs a plugin: one verb, from the environment and stdin, with the answer
// on stdout. It does not return.
//
// The CNI library has a dispatcher, too. It decodes the configuration twice before
// the plugin does, compiles regular expressions at start, and compares the
// namespaces after the work is done; that takes 0.15 ms, and is too late.
func Main(m Mode) {
	debug.SetGCPercent(-1)      // the process ends before a collection would pay
	debug.SetPanicOnFault(true) // the store is mapped memory: a file that was cut is an error, too
	p := &plugin{Mode: m, trace: newTrace(), ctx: newInterruptible(context.Background()), out: os.Stdout}
	err := p.dispatch()
	var number uint
	if err != nil {
		coded := code(err)
		printError(p.cniVersion, coded)
		number = coded.Code
	}
	p.end(p.store().Dir(), os.Getenv("CNI_COMMAND"), number)
	os.Exit(min(int(number), 1))
}

// plugin is one run of a mode.
type plugin struct {
	Mode
	*trace
	ctx        context.Context
	out        io.Writer // the answer
	cniVersion string
}

func (p *plugin) dispatch() (err error) {
	defer attach.Recover(&err, p.Name)
	command := os.Getenv("CNI_COMMAND")
	switch command {
	case "ADD":
		return p.run(p.add, needs{container: true, netns: true}, "0.1.0")
	case "DEL":
		return p.run(p.del, needs{container: true, lenient: true}, "0.1.0")
	case "CHECK":
		return p.run(p.check, needs{container: true, netns: true}, "0.4.0")
	case "GC":
		return p.run(p.gc, needs{}, "1.1.0")
	case "STATUS":
		return p.run(p.status, needs{}, "1.1.0")
	case "VERSION":
		return json.NewEncoder(p.out).Encode(map[string]any{
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
	r, err := p.Request(p.ctx, args)
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

// Warn tells the runtime's log, and so the person behind the runtime, something that
// is no error.
func Warn(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "berth: "+format+"\n", args...)
}
