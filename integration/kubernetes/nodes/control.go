package nodes

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/integration/kubernetes"
)

// token is that of a node, or of another part of Kubernetes.
func token(name string) string { return name + "-token" }

// controlPlane starts the API server, the controller manager and the scheduler on the first
// node's host, where they outlive the node's own processes.
func (c *Cluster) controlPlane() (err error) {
	h := c.Nodes[0].Host
	users := []kubernetes.User{}
	for _, name := range []string{"kube-controller-manager", "kube-scheduler", "kube-proxy"} {
		users = append(users, kubernetes.User{Token: token(name), Name: "system:" + name})
	}
	for _, n := range c.Nodes {
		users = append(users, kubernetes.User{Token: token(n.Name), Name: "system:node:" + n.Name, Groups: []string{"system:nodes"}})
	}
	c.API, err = kubernetes.StartAPIServer(h, kubernetes.Options{Address: h.Addr4, Users: users, Services: Services4 + "," + Services6,
		Names: []netip.Addr{netip.MustParseAddr(apiService)}, Flags: []string{"--kubelet-preferred-address-types=InternalIP"}})
	if err != nil {
		return err
	}
	if c.config, err = c.API.Kubeconfig("admin", c.API.Token); err != nil {
		return err
	}
	return c.controllers()
}

// controllers starts the controller manager and the scheduler.
func (c *Cluster) controllers() error {
	key := c.API.AccountKey()
	flags := map[string][]string{
		"kube-controller-manager": append([]string{"--use-service-account-credentials=true", "--service-account-private-key-file=" + key, "--root-ca-file=" + c.API.CA,
			"--cluster-cidr=" + Pods4 + "," + Pods6, "--allocate-node-cidrs=false", "--service-cluster-ip-range=" + Services4 + "," + Services6, "--node-monitor-grace-period=20s"},
			c.options.ControllerFlags...),
		"kube-scheduler": nil,
	}
	for name, flags := range flags {
		program, err := kubernetes.Program(name)
		if err != nil {
			return err
		}
		user, err := c.API.Kubeconfig(name, token(name))
		if err != nil {
			return err
		}
		args := append([]string{"--kubeconfig", user, "--authentication-kubeconfig", user, "--authorization-kubeconfig", user, "--leader-elect=false"}, flags...)
		p, err := c.Nodes[0].Host.Start(program, args...)
		if err != nil {
			return err
		}
		c.control = append(c.control, p)
	}
	return nil
}

// Kubectl runs kubectl as the administrator.
func (c *Cluster) Kubectl(args ...string) (string, error) {
	return c.Nodes[0].Host.Output(c.kubectl, append([]string{"--kubeconfig", c.config}, args...)...)
}

// Ready waits until the nodes are.
func (c *Cluster) Ready() error {
	for _, n := range c.Nodes {
		if _, err := c.Kubectl("wait", "--for=condition=Ready", "node/"+n.Name, "--timeout=120s"); err != nil {
			return fmt.Errorf("%w\n%s", err, n.Process("kubelet").Tail())
		}
	}
	return nil
}

// registered waits until the API server knows the nodes.
func (c *Cluster) registered() error {
	for _, n := range c.Nodes {
		err := cluster.Until(2*time.Minute, func() error {
			_, err := c.API.Call("GET", "/api/v1/nodes/"+n.Name, nil)
			return err
		})
		if err != nil {
			return fmt.Errorf("%w\n%s", err, n.Process("kubelet").Tail())
		}
	}
	return nil
}

// Apply applies a manifest.
func (c *Cluster) Apply(name, text string) error {
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	_, err := c.Kubectl("apply", "--server-side", "--filename", path)
	return err
}
