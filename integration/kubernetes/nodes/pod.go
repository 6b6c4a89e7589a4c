package nodes

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-cni/berth/integration/cluster"
)

// Pod is a pod of one container, which answers TCP and UDP on port 80 with its name and who
// asks: see integration/runtimes/server. Its labels are "app", its name, and "all", which is
// the same for every pod.
type Pod struct {
	Name  string
	Node  *Node
	Addrs []netip.Addr
	netns string
}

// object is a part of an object of the API.
type object = map[string]any

// Port is a port of a pod on its node.
type Port struct {
	HostPort int    `json:"hostPort,omitempty"`
	HostIP   string `json:"hostIP,omitempty"`
	Port     int    `json:"containerPort"`
	Protocol string `json:"protocol"`
}

// Pod makes a pod on a node. [Cluster.Start] waits for it.
func (c *Cluster) Pod(n *Node, name string, ports ...Port) (*Pod, error) {
	container := object{"name": "c", "image": Image, "imagePullPolicy": "Never", "command": []string{"/server", "serve", name, "80"},
		"readinessProbe": object{"tcpSocket": object{"port": 80}, "periodSeconds": 1}}
	if ports != nil {
		container["ports"] = ports
	}
	_, err := c.API.Call("POST", "/api/v1/namespaces/default/pods", object{
		"metadata": object{"name": name, "labels": object{"app": name, "all": "web"}},
		"spec":     object{"nodeName": n.Name, "terminationGracePeriodSeconds": 1, "containers": []object{container}},
	})
	return &Pod{Name: name, Node: n}, err
}

// Start waits until pods are ready, at most two minutes, and learns their addresses.
func (c *Cluster) Start(pods ...*Pod) error {
	args := []string{"wait", "--for=condition=Ready", "--timeout=120s"}
	for _, p := range pods {
		args = append(args, "pod/"+p.Name)
	}
	if _, err := c.Kubectl(args...); err != nil {
		events, _ := c.Kubectl("get", "events", "-A", "--sort-by=.lastTimestamp")
		return fmt.Errorf("%w\n%s", err, events)
	}
	for _, p := range pods {
		if err := c.look(p); err != nil {
			return fmt.Errorf("pod %s: %w", p.Name, err)
		}
	}
	return nil
}

// look learns a pod's addresses, and finds its namespace on the node by them.
func (c *Cluster) look(p *Pod) error {
	answer, err := c.API.Call("GET", "/api/v1/namespaces/default/pods/"+p.Name, nil)
	if err != nil {
		return err
	}
	var pod struct {
		Status struct{ PodIPs []struct{ IP netip.Addr } }
	}
	if err := json.Unmarshal(answer, &pod); err != nil {
		return err
	}
	p.Addrs = nil
	for _, a := range pod.Status.PodIPs {
		p.Addrs = append(p.Addrs, a.IP)
	}
	if len(p.Addrs) == 0 {
		return fmt.Errorf("has no address")
	}
	names, err := p.Node.Output("ip", "netns", "list")
	if err != nil {
		return err
	}
	for line := range strings.Lines(names) {
		name := strings.Fields(line)[0]
		out, err := p.Node.Output("ip", "-n", name, "-o", "addr")
		if err == nil && strings.Contains(out, " "+p.Addrs[0].String()+"/") {
			p.netns = name
			return nil
		}
	}
	return fmt.Errorf("no namespace on %s has %s", p.Node.Name, p.Addrs[0])
}

// Do runs fn with the pod's network: see [cluster.StartFlow].
func (p *Pod) Do(fn func() error) error {
	return p.Node.Host.Do(func() error {
		ns, err := os.Open("/run/netns/" + p.netns)
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the network of pod %s: %w", p.Name, err)
		}
		return fn()
	})
}

// Look learns the addresses of pods again, which have other ones once their node has lost
// its power.
func (c *Cluster) Look(pods ...*Pod) error {
	for _, p := range pods {
		if err := Until(func() error { return c.look(p) }); err != nil {
			return fmt.Errorf("pod %s: %w", p.Name, err)
		}
	}
	return nil
}

// Ask asks a server from the pod.
func (p *Pod) Ask(network, address string) (string, error) {
	return p.Node.ask("ip", "netns", "exec", p.netns, p.Node.cluster.server, "ask", network, address)
}

// Ask asks a server from the node.
func (n *Node) Ask(network, address string) (string, error) {
	return n.ask(n.cluster.server, "ask", network, address)
}

// AskFrom asks a server from one of the node's addresses.
func (n *Node) AskFrom(from netip.Addr, network, address string) (string, error) {
	return n.ask(n.cluster.server, "ask", network, address, from.String())
}

// AskOutside asks a server from the machine outside.
func (c *Cluster) AskOutside(network, address string) (string, error) {
	out, err := c.Outside.Output(c.server, "ask", network, address)
	return strings.TrimSpace(out), err
}

func (n *Node) ask(name string, args ...string) (string, error) {
	out, err := n.Output(name, args...)
	return strings.TrimSpace(out), err
}

// Service is a Service of the name, for pods with a label, on port 80 of TCP and UDP.
type Service struct {
	Name  string
	Addrs []netip.Addr
	Port  int // of the nodes, TCP; UDP's is [Service.UDPPort]; 0: none

	UDPPort int
}

// Service makes a Service of both families. More is what its spec has beside that.
func (c *Cluster) Service(name, label, value string, more object) (*Service, error) {
	spec := object{"selector": object{label: value}, "ipFamilyPolicy": "PreferDualStack",
		"ports": []object{{"name": "t", "port": 80, "protocol": "TCP"}, {"name": "u", "port": 80, "protocol": "UDP"}}}
	for k, v := range more {
		spec[k] = v
	}
	answer, err := c.API.Call("POST", "/api/v1/namespaces/default/services", object{"metadata": object{"name": name}, "spec": spec})
	if err != nil {
		return nil, err
	}
	var made struct {
		Spec struct {
			ClusterIPs []netip.Addr
			Ports      []struct{ NodePort int }
		}
	}
	if err := json.Unmarshal(answer, &made); err != nil {
		return nil, err
	}
	return &Service{Name: name, Addrs: made.Spec.ClusterIPs, Port: made.Spec.Ports[0].NodePort, UDPPort: made.Spec.Ports[1].NodePort}, nil
}

// Addr is a node's address of a family: 4 or 6.
func (n *Node) Addr(family int) netip.Addr {
	if family == 6 {
		return n.Addr6
	}
	return n.Addr4
}

// Until waits until ok returns nil.
func Until(ok func() error) error { return cluster.Until(startPatience, ok) }
