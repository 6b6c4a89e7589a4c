package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// kubectlName is the file name by which kubectl finds the program as its plugin, "kubectl
// berth".
const kubectlName = "kubectl-berth"

// kubectlRoot is the program as kubectl's plugin. It runs where a person is, on no host of
// a network: what is in the cluster it does by the person's own rights, and what only a
// host knows by an agent's pod.
func (p *program) kubectlRoot() *cobra.Command {
	root := group(&cobra.Command{
		Use:         kubectlName,
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl berth"},
		Short:       "Manage Berth's networks and hosts in Kubernetes",
		Long: `Make and remove networks that span a cluster's nodes, show and remove nodes, and run
berth on them: what a node's containers have, and what is wrong there.

The cluster is that of KUBECONFIG, as with kubectl itself, or of --kubeconfig. 'kubectl get
berth' shows networks, nodes and blocks as objects.

` + exitCodes,
		Example: `  kubectl berth network create --subnet 10.60.0.0/16 blue
  kubectl berth node ls
  kubectl berth on all ps
  kubectl berth on host1 doctor`,
		Version:           cni.Version,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error { return p.settings.loadKubernetes(c) },

		SilenceUsage:  true,
		SilenceErrors: true,
	})
	root.SetVersionTemplate("kubectl-berth {{.Version}} (berth)\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	networks := group(&cobra.Command{Use: "network", Aliases: []string{"net"}, Short: "Make and remove networks that span nodes"},
		p.createInCluster(), p.networkRemoveCommand())
	nodes := group(&cobra.Command{Use: "node", Short: "Show and remove the nodes of these networks"},
		p.nodeListCommand(), p.nodeInspectCommand(), p.nodeRemoveCommand(), p.nodePruneCommand())
	root.AddCommand(networks, nodes, p.onCommand())
	hideOtherStores(root)
	root.CompletionOptions.DisableDefaultCmd = true
	p.setOutput(root)
	return root
}

// createInCluster is 'network create' of the driver that spans nodes.
func (p *program) createInCluster() *cobra.Command {
	c := p.networkCreateCommand()
	driver := c.Flags().Lookup("driver")
	driver.DefValue = driverOverlay
	_ = driver.Value.Set(driverOverlay) // one of its words
	c.Long = `Make a network that spans the cluster's nodes. Its name is printed when it is there.

Each node owns blocks of its subnets, from which its containers get their addresses;
containers reach each other by address and by name, wherever they are. Without --subnet it
gets a /16 of 10.0.0.0/8, with --ipv6 also a /48 of fd00::/8. The agents write its conflist
on every node. A network does not change once it is made.

` + exitCodes
	c.Example = "  kubectl berth network create --subnet 10.60.0.0/16 blue\n  kubectl berth network create --encrypted --ipv6 green"
	for _, name := range slices.Concat([]string{"driver", "install", "address-pools", "ipv4", "attachable", "scope", "ipam-driver"}, hereFlags, bridgeFlags) {
		c.Flags().Lookup(name).Hidden = true
	}
	c.PreRunE = func(*cobra.Command, []string) error {
		if d := driver.Value.String(); d != driverOverlay && d != dockersOverlay {
			return usageError{fmt.Errorf("--driver: %s: want %s: the others are of one host", d, driverOverlay)}
		}
		return nil
	}
	return c
}

// hideOtherStores leaves out of the help what another store is about.
func hideOtherStores(c *cobra.Command) {
	c.Flags().VisitAll(func(f *pflag.Flag) {
		f.Hidden = f.Hidden || f.Name == "store" || f.Name == "peers-file" || strings.HasPrefix(f.Name, "etcd-")
	})
	for _, child := range c.Commands() {
		hideOtherStores(child)
	}
}

// loadKubernetes is load where there is no host: no configuration file says anything.
func (s *settings) loadKubernetes(c *cobra.Command) error {
	flags := c.Flags()
	if flags.Changed("store") && s.store != storeKubernetes {
		return usageError{fmt.Errorf("--store: %s: want %s, or 'berth' itself", s.store, storeKubernetes)}
	}
	s.store, s.named = storeKubernetes, true
	return s.check(func(name string) bool { return flags.Lookup(name) != nil })
}

// allNodes is the word for every node that has an agent.
const allNodes = "all"

func (p *program) onCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "on [flags] NODE[,NODE...]|" + allNodes + " COMMAND [ARGUMENT...]",
		Short: "Run berth on nodes, in the pods of their agents",
		Long: `Run a command of berth on nodes, one after the other, in the pods of their agents
(kubectl exec): ps, graph, inspect, doctor, gc, reload, network ls. Of several nodes each
one's answer has its name above it.

Exit codes: that of the command, of several nodes the highest; 2 a node has no agent that
runs, or the command line is wrong.`,
		Example: "  kubectl berth on all ps\n  kubectl berth on host1 doctor\n  kubectl berth on host1,host2 graph --json",
		Args:    arguments(cobra.MinimumNArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			pods, err := p.agentPods(c.Context(), args[0])
			if err != nil {
				return err
			}
			return p.runOn(c.Context(), pods, args[1:])
		},
	}
	f := c.Flags()
	f.SetInterspersed(false) // what follows the node is the command's
	p.settings.kubernetesFlags(f)
	return c
}

// agentPod is the pod of a node's agent.
type agentPod struct{ node, name string }

// agentPods finds the agents' pods that run on nodes.
func (p *program) agentPods(ctx context.Context, nodes string) ([]agentPod, error) {
	s := &p.settings
	c, err := client.Open(client.Options{Kubeconfig: s.kubeconfig, Server: s.apiServer, UserAgent: kubectlName})
	if err != nil {
		return nil, usageError{err}
	}
	defer c.Close()
	var list struct {
		Items []struct {
			Metadata client.Meta
			Spec     struct{ NodeName string }
		}
	}
	pods := client.Resource{Version: "v1", Plural: "pods"}.In(p.agentsNamespace())
	query := url.Values{"labelSelector": {"app.kubernetes.io/name=berth,app.kubernetes.io/component=agent"}, "fieldSelector": {"status.phase=Running"}}
	if err := c.Get(ctx, pods.Path()+"?"+query.Encode(), &list); err != nil {
		return nil, fmt.Errorf("list agents' pods: %w", err)
	}
	running := map[string]string{}
	for _, pod := range list.Items {
		running[pod.Spec.NodeName] = pod.Metadata.Name
	}
	return choosePods(running, nodes)
}

// choosePods are those of the nodes that a person names, in that order.
func choosePods(running map[string]string, nodes string) (pods []agentPod, err error) {
	names := strings.Split(nodes, ",")
	if nodes == allNodes {
		names = nil
		for name := range running {
			names = append(names, name)
		}
		slices.Sort(names)
		if len(names) == 0 {
			return nil, usageError{errors.New("no agent's pod runs: is Berth installed, and is --namespace where it is?")}
		}
	}
	var errs []error
	for _, name := range names {
		if running[name] == "" {
			errs = append(errs, fmt.Errorf("node %s: no agent's pod runs there", name))
			continue
		}
		pods = append(pods, agentPod{name, running[name]})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, usageError{err}
	}
	return pods, nil
}

func (p *program) agentsNamespace() string {
	return cmp.Or(p.settings.namespace, kubernetes.DefaultNamespace)
}

// runOn runs berth in pods, one after the other. The error has the highest exit code.
func (p *program) runOn(ctx context.Context, pods []agentPod, args []string) error {
	s, highest := &p.settings, 0
	for i, pod := range pods {
		if len(pods) > 1 {
			if i > 0 {
				fmt.Fprintln(p.out)
			}
			fmt.Fprintf(p.out, "%s:\n", pod.node)
		}
		var where []string
		if s.kubeconfig != "" {
			where = append(where, "--kubeconfig="+s.kubeconfig)
		}
		if s.apiServer != "" {
			where = append(where, "--server="+s.apiServer)
		}
		where = append(where, "exec", "--namespace="+p.agentsNamespace(), "--container=agent", pod.name, "--", "berth")
		run := exec.CommandContext(ctx, "kubectl", append(where, args...)...)
		run.Cancel = func() error { return run.Process.Signal(os.Interrupt) }
		run.Stdout, run.Stderr = p.out, p.err
		var exit *exec.ExitError
		switch err := run.Run(); {
		case errors.As(err, &exit) && exit.ExitCode() > 0:
			highest = max(highest, exit.ExitCode())
		case err != nil:
			return fmt.Errorf("node %s: %w", pod.node, err)
		}
	}
	if highest > 0 {
		return exitError(highest)
	}
	return nil
}
