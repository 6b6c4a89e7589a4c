// Berth is the people's program: it runs the host's agent, makes and removes the
// networks that span hosts, shows the hosts, and tells what is wrong.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/berth-cni/berth/pkg/cni"
	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	p := &program{open: openStore, kubectl: filepath.Base(os.Args[0]) == kubectlName}
	os.Exit(run(ctx, p, os.Args[1:]...))
}

// Exit codes, which the help of the program documents.
const (
	exitDone   = 0
	exitFailed = 1 // doctor: problems found
	exitUsage  = 2 // doctor: or could not look
)

const exitCodes = `Exit codes: 0 done; 1 not done, and the message says why; 2 the command line
or the configuration is wrong, nothing was done.`

// usageError is a mistake of the command line or of the configuration.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// exitError ends the program with a code, when all has been said.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// run runs one command and returns the exit code.
func run(ctx context.Context, p *program, args ...string) int {
	root := p.root()
	if p.kubectl {
		root = p.kubectlRoot()
	}
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var code exitError
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage):
		complain(root.ErrOrStderr(), err)
		return exitUsage
	}
	complain(root.ErrOrStderr(), err)
	return exitFailed
}

// complain writes an error, which may be of several lines.
func complain(w io.Writer, err error) {
	fmt.Fprintf(w, "berth: %s\n", strings.ReplaceAll(err.Error(), "\n", "\n       "))
}

func (p *program) root() *cobra.Command {
	root := group(&cobra.Command{
		Use:   "berth",
		Short: "Manage Berth's networks and hosts",
		Long: `Berth gives containers the networks that Docker made familiar, under any
runtime that speaks CNI. This program makes networks, of this host and of many, connects
containers to them, shows what is there, tells what is wrong, and runs the host's agent.

Every command reads ` + defaultConfig + `, if it is there: each key of
it is the name of a flag of 'berth agent'. A flag wins over the file.

` + exitCodes,
		Example: `  berth network create my-bridge
  berth network connect my-bridge web
  berth ps
  berth graph
  berth doctor`,
		Version: cni.Version,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			return cmp.Or(p.settings.load(c), p.settings.checkStateDir(c))
		},

		SilenceUsage:  true,
		SilenceErrors: true,
	})
	p.settings.configFlag(root.PersistentFlags())
	root.SetVersionTemplate("berth {{.Version}} (berth)\n")
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(p.agentCommand(), p.networkCommand(), p.nodeCommand(), p.doctorCommand())
	root.AddCommand(p.psCommand(), p.portCommand(), p.inspectCommand(), p.graphCommand(), p.topCommand(), p.traceCommand(), p.resolveCommand(), p.hostNamesCommand())
	root.AddCommand(p.reloadCommand(), p.gcCommand(), p.completionCommand(), p.docCommand(), p.wireguardCommand())
	p.completeArguments(root)
	p.setOutput(root)
	return root
}

// ofRuntimes are commands of Docker's that are for the program of the runtime.
var ofRuntimes = []string{"attach", "build", "compose", "container", "cp", "create", "exec", "image", "images", "kill", "logs", "pause", "pull", "push",
	"rename", "restart", "rm", "rmi", "run", "start", "stop", "unpause", "update", "wait"}

// group makes a command that is only a family of others: without one of them it
// shows its help.
func group(c *cobra.Command, members ...*cobra.Command) *cobra.Command {
	c.AddCommand(members...)
	c.Args = cobra.ArbitraryArgs // or cobra has words of its own
	c.DisableFlagsInUseLine = true
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		if !c.HasParent() && slices.Contains(ofRuntimes, args[0]) {
			return usageError{fmt.Errorf("%s: no such command: containers and images are the runtime's: podman, nerdctl, crictl or ctr has it; '%s --help' shows what is here", args[0], c.CommandPath())}
		}
		why := fmt.Sprintf("%s: no such command", args[0])
		c.SuggestionsMinimumDistance = 2
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			why += fmt.Sprintf(": %s?", strings.Join(near, " or "))
		}
		return usageError{fmt.Errorf("%s; '%s --help' shows all", why, c.CommandPath())}
	}
	return c
}
