// Package nodes makes a Kubernetes of several nodes on one machine, each node in namespaces
// of its own: containerd, kubelet, kube-proxy, and on the first one the API server, the
// controller manager and the scheduler. The machine needs no container runtime but runc, and
// no registry.
//
// A program that uses it calls [First] before anything else.
package nodes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/integration/kubernetes"
)

// The addresses of Services, and what pods' addresses are of.
const (
	Services4, Services6 = "10.96.0.0/16", "fd96::/108"
	Pods4, Pods6         = "10.244.0.0/16", "fd42::/48"
	apiService           = "10.96.0.1"
	dnsService           = "10.96.0.10"
	domain               = "cluster.local"
)

// outsideNumber is the host number of the machine outside.
const outsideNumber = 200

// Options are a cluster's.
type Options struct {
	Nodes int    // how many
	Proxy string // kube-proxy's mode: nftables or iptables; empty: it does not run
	// VethsAreLocal has kube-proxy know pods by the names of their interfaces on the node,
	// and not by their addresses.
	VethsAreLocal bool
	// BridgeNetfilter has bridges' frames pass the packet filter, as most of Kubernetes'
	// nodes have it.
	BridgeNetfilter bool
	// ControllerFlags are more of kube-controller-manager's.
	ControllerFlags []string
	// Images are more archives that the nodes get.
	Images []string
	// Taints of new nodes, as kubelet's registerWithTaints.
	Taints string
}

// Cluster is a Kubernetes of dual stack, IPv4 first, without a network for its pods.
type Cluster struct {
	*cluster.Cluster
	API     *kubernetes.APIServer
	Nodes   []*Node
	Outside *cluster.Host // where "server serve outside 80" runs; it is the nodes' default gateway

	options Options
	dir     string // everything on disk
	server  string // program: integration/runtimes/server
	images  []string
	kubectl string
	config  string // kubectl's, of the administrator
	control []*cluster.Process
}

// New makes a cluster, and waits until its nodes have registered themselves. They are ready
// when there is a network for the pods. [Cluster.Close] ends everything.
func New(o Options) (*Cluster, error) {
	c := &Cluster{options: o}
	if err := c.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("make a Kubernetes of %d nodes: %w", o.Nodes, err), c.Close())
	}
	return c, nil
}

func (c *Cluster) start() (err error) {
	if c.dir, err = os.MkdirTemp("", "berth-kubernetes"); err != nil {
		return err
	}
	if err := os.Chmod(c.dir, 0o755); err != nil { // containers of other users go through it
		return err
	}
	if err := c.programs(); err != nil {
		return err
	}
	if c.Cluster, err = cluster.New(cluster.Options{}); err != nil {
		return err
	}
	if c.Outside, err = c.outside(); err != nil {
		return err
	}
	for i := range c.options.Nodes {
		if err := c.addNode(i + 1); err != nil {
			return err
		}
	}
	if err := c.controlPlane(); err != nil {
		return err
	}
	for _, n := range c.Nodes {
		if err := n.services(); err != nil {
			return err
		}
	}
	return c.registered()
}

// programs finds, or makes, what the nodes run.
func (c *Cluster) programs() (err error) {
	if c.kubectl, err = kubernetes.Program("kubectl"); err != nil {
		return err
	}
	if c.server, err = buildServer(c.dir); err != nil {
		return err
	}
	path := filepath.Join(c.dir, "images.tar")
	if err := writeImages(path, c.server); err != nil {
		return fmt.Errorf("make images: %w", err)
	}
	c.images = append([]string{path}, c.options.Images...)
	return nil
}

// outside makes the machine outside, which answers TCP and UDP on port 80.
func (c *Cluster) outside() (*cluster.Host, error) {
	h, err := c.Host("outside", outsideNumber)
	if err != nil {
		return nil, err
	}
	_, err = h.Start(c.server, "serve", "outside", "80")
	return h, err
}

// Close ends everything, and takes its files and control groups away.
func (c *Cluster) Close() error {
	var errs []error
	for _, n := range c.Nodes {
		errs = append(errs, n.close())
	}
	if c.API != nil {
		c.API.Close()
	}
	if c.Cluster != nil {
		c.Cluster.Close()
	}
	return errors.Join(append(errs, os.RemoveAll(c.dir))...)
}
