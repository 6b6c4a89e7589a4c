package nodes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/integration/kubernetes"
)

// socket is containerd's, and namespace where it has Kubernetes' images and containers.
const (
	socket    = "/run/containerd/containerd.sock"
	namespace = "k8s.io"
)

// startPatience is how long a program of a node may take until it answers.
const startPatience = time.Minute

// services starts what runs on a node.
func (n *Node) services() error {
	if err := n.Containerd(); err != nil {
		return err
	}
	return errors.Join(n.Kubelet(), n.Proxy(n.cluster.options.Proxy))
}

func (n *Node) write(name, text string) (path string, err error) {
	path = filepath.Join(n.disk, "etc", name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// containerd is one of integration/.bin/containerd2.
func containerd(program string) (string, error) {
	kubelet, err := kubernetes.Program("kubelet")
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(kubelet), "../../containerd2", program)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: `make -C integration containerd2` makes it", err)
	}
	return path, nil
}

// Containerd starts containerd, and gives it the images once.
func (n *Node) Containerd() error {
	program, err := containerd("containerd")
	if err != nil {
		return err
	}
	shim, err := containerd("containerd-shim-runc-v2")
	if err != nil {
		return err
	}
	// Without CAP_SYS_RESOURCE runc cannot set a negative
	// oom_score_adj.
	config, err := n.write("containerd.toml", fmt.Sprintf(`version = 3
root = "/var/lib/containerd"
state = "/run/containerd/state"
[grpc]
address = "%s"
[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"
[plugins."io.containerd.nri.v1.nri"]
disable = true
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "%s"
[plugins."io.containerd.cri.v1.runtime"]
disable_apparmor = true
restrict_oom_score_adj = true
enable_unprivileged_ports = false
enable_unprivileged_icmp = false
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/opt/cni/bin"]
conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
runtime_path = "%s"
`, socket, pauseImage, shim))
	if err != nil {
		return err
	}
	if err := n.Run(program, "--config", config); err != nil {
		return err
	}
	err = cluster.Until(startPatience, func() error {
		_, err := n.ctr("version")
		return err
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, n.Process("containerd").Tail())
	}
	return n.load(n.cluster.images)
}

func (n *Node) ctr(args ...string) (string, error) {
	program, err := containerd("ctr")
	if err != nil {
		return "", err
	}
	return n.In(program, append([]string{"--address", socket, "--namespace", namespace}, args...)...)
}

// load imports archives of images, each once.
func (n *Node) load(archives []string) error {
	for _, path := range archives {
		done := filepath.Join(n.disk, "etc", filepath.Base(path)+".loaded")
		if _, err := os.Stat(done); err == nil {
			continue
		}
		if _, err := n.ctr("images", "import", "--local", path); err != nil {
			return err
		}
		if err := os.WriteFile(done, nil, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Kubelet starts kubelet. All may do all there: nobody else reaches it.
func (n *Node) Kubelet() error {
	program, err := kubernetes.Program("kubelet")
	if err != nil {
		return err
	}
	taints := ""
	if n.cluster.options.Taints != "" {
		taints = "registerWithTaints: " + n.cluster.options.Taints
	}
	config, err := n.write("kubelet.yaml", fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: %q
enforceNodeAllocatable: [none]
clusterDNS: [%s]
clusterDomain: %s
containerRuntimeEndpoint: unix://%s
featureGates: {KubeletInUserNamespace: true}
resolvConf: /etc/resolv.conf
failSwapOn: false
oomScoreAdj: 0
evictionHard: {memory.available: 1Mi, nodefs.available: "1%%", imagefs.available: "1%%"}
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 5s
shutdownGracePeriod: 0s
%s
`, n.group(), dnsService, domain, socket, taints))
	if err != nil {
		return err
	}
	user, err := n.cluster.API.Kubeconfig(n.Name, token(n.Name))
	if err != nil {
		return err
	}
	return n.Run(program, "--config", config, "--kubeconfig", user, "--hostname-override", n.Name,
		"--node-ip", n.Addr4.String()+","+n.Addr6.String(), "--root-dir", "/var/lib/kubelet", "--cert-dir", "/var/lib/kubelet/pki", "--v=2")
}

// Proxy starts kube-proxy in a mode, in place of one that runs; none in the empty one.
func (n *Node) Proxy(mode string) error {
	program, err := kubernetes.Program("kube-proxy")
	if err != nil {
		return err
	}
	if p := n.Process("kube-proxy"); p != nil && p.Running() {
		p.Kill()
		if _, err := n.In(program, "--cleanup", "--config", filepath.Join(n.disk, "etc", "proxy.yaml")); err != nil {
			return err
		}
	}
	if mode == "" {
		return nil
	}
	user, err := n.cluster.API.Kubeconfig("kube-proxy", token("kube-proxy"))
	if err != nil {
		return err
	}
	local := "clusterCIDR: " + Pods4 + "," + Pods6
	if n.cluster.options.VethsAreLocal {
		local = "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth}"
	}
	// The conntrack table's size is of the machine.
	config, err := n.write("proxy.yaml", fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: %q}
mode: %s
%s
hostnameOverride: %s
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
oomScoreAdj: 0
`, user, mode, local, n.Name))
	if err != nil {
		return err
	}
	return n.Run(program, "--config", config, "--v=2")
}
