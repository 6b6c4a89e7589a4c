package cluster

import (
	"bufio"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
)

// Agent is `berth agent` on a host. Its Process is the running one, or the last.
type Agent struct {
	*Process
	host *Host
	path string
	args []string
	http *http.Client
}

// agentListen is where an agent answers: each host has a loopback of its own.
const agentListen = "127.0.0.1:9477"

// agentPatience is how long an agent may take until it is ready.
const agentPatience = 15 * time.Second

// Agent starts an agent with the host's name, eth0 as its underlay (more flags come
// behind, and win), and waits until it is ready.
func (h *Host) Agent(flags ...string) (*Agent, error) {
	a, err := h.LaunchAgent(flags...)
	if err != nil {
		return nil, err
	}
	return a, a.Ready()
}

// LaunchAgent is [Host.Agent] that does not wait.
func (h *Host) LaunchAgent(flags ...string) (*Agent, error) {
	bin, err := sandbox.Binaries()
	if err != nil {
		return nil, err
	}
	a := &Agent{host: h, path: filepath.Join(bin, "berth"), http: h.client()}
	a.args = append([]string{"agent", "--node-name", h.Name, "--listen", agentListen, "--underlay", "eth0"}, flags...)
	return a, a.Launch()
}

// OnEtcd are the flags of an agent or another command that uses the store.
func OnEtcd(e *Etcd) []string {
	flags := []string{"--store", "etcd", "--etcd-endpoints", e.Endpoints()}
	if e.secure != nil {
		flags = append(flags, "--etcd-ca", e.secure.File("ca.pem"), "--etcd-cert", e.secure.File("client.pem"), "--etcd-key", e.secure.File("client.key"))
	}
	return flags
}

// OnKubernetes are the flags of one that keeps networks in Kubernetes' API.
func OnKubernetes(kubeconfig string) []string {
	return []string{"--store", "kubernetes", "--kubeconfig", kubeconfig}
}

// OnFile are the flags of one that reads a file of peers.
func OnFile(path string) []string { return []string{"--store", "static", "--peers-file", path} }

// Start starts an agent that has ended, with the same flags, and waits until it is
// ready: at most 15 s.
func (a *Agent) Start() error {
	if err := a.Launch(); err != nil {
		return err
	}
	return a.Ready()
}

// Launch is [Agent.Start] that does not wait.
func (a *Agent) Launch() (err error) {
	a.Process, err = a.host.Start(a.path, a.args...)
	return err
}

// Ready waits until /readyz says so: at most 15 s.
func (a *Agent) Ready() error {
	err := Until(agentPatience, func() error {
		if !a.Running() {
			return fmt.Errorf("ended: %v", a.err)
		}
		return a.Probe("readyz")
	})
	if err != nil {
		return fmt.Errorf("agent of %s: %w\n%s", a.host.Name, err, a.Tail())
	}
	return nil
}

// Probe asks /healthz or /readyz once; nil for 200, else an error with the reason.
func (a *Agent) Probe(name string) error {
	_, err := get(a.http, "http://"+agentListen+"/"+name)
	return err
}

// Metrics are the samples of /metrics by name and labels, as they are written there:
// `up` or `up{a="b"}`.
func (a *Agent) Metrics() (map[string]float64, error) {
	text, err := get(a.http, "http://"+agentListen+"/metrics")
	if err != nil {
		return nil, err
	}
	samples := map[string]float64{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		blank := strings.LastIndexByte(line, ' ')
		if blank < 0 {
			return nil, fmt.Errorf("metrics of %s: no value in %q", a.host.Name, line)
		}
		v, err := strconv.ParseFloat(line[blank+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metrics of %s: %w", a.host.Name, err)
		}
		samples[line[:blank]] = v
	}
	return samples, nil
}

// Berth runs a command of berth on the host, and returns what it wrote.
func (h *Host) Berth(args ...string) (string, error) {
	bin, err := sandbox.Binaries()
	if err != nil {
		return "", err
	}
	return h.Output(filepath.Join(bin, "berth"), args...)
}
