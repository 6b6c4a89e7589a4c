package kubernetes

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/integration/sandbox"
	store "github.com/berth-cni/berth/pkg/overlay/kubernetes"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
	"go.yaml.in/yaml/v3"
)

// deployed are hosts on which what the manifests say is run, by the same arguments and with
// the same rights as in pods; there is no kubelet.
type deployed struct {
	*cluster.Cluster
	t   *testing.T
	api *APIServer
}

// pod is the container of a workload of a manifest.
type pod struct {
	Kind string
	Spec struct {
		Template struct {
			Spec struct {
				ServiceAccountName string `yaml:"serviceAccountName"`
				Containers         []struct{ Args []string }
			}
		}
	}
	Data map[string]string
}

// What of the nodes' folders is only the hosts' here.
const binDir = "/run/plugins"

// TestDeployed: with what deploy/berth.yaml says, the Job makes the network, and agents
// make nodes of new hosts: plugins beside another suite's, conflist, and no taint any more. Pods
// of two nodes reach each other. By deploy/reset.yaml nothing is left.
func TestDeployed(t *testing.T) {
	c, err := cluster.New(cluster.Options{})
	must(t, err)
	t.Cleanup(c.Close)
	h, err := c.Other("api", 240)
	must(t, err)
	d := &deployed{Cluster: c, t: t}
	d.api, err = StartAPIServer(h, Options{Address: h.Addr4})
	must(t, err)
	t.Cleanup(d.api.Close)
	d.api.manifest(t, "berth.yaml")
	d.api.manifest(t, "reset.yaml")
	agents := d.agents("oslo", "kiel")
	for range 2 { // the second time the network is there
		out, err := d.run(c.Hosts[0], "berth.yaml", "Job", nil)
		if err != nil || strings.TrimSpace(out) != "pods" {
			t.Fatalf("make the network: %q, %v", out, err)
		}
	}
	containers := d.attach()
	for _, h := range c.Hosts {
		names, err := h.Output("ls", binDir)
		must(t, err)
		if got, want := strings.Fields(names), []string{"berth-loopback", "berth-vxlan-overlay", "loopback"}; !slices.Equal(got, want) {
			t.Errorf("plugins of %s: %v, want %v", h.Name, got, want)
		}
	}
	stop, err := containers[1].Serve("0.0.0.0:8000")
	must(t, err)
	answer, err := containers[0].Ask(d.address(containers[1]) + ":8000")
	stop()
	if want := containers[1].ID + " " + d.address(containers[0]); err != nil || answer != want {
		t.Errorf("from node to node: %q, %v, want %q", answer, err, want)
	}
	for _, a := range agents {
		must(t, a.Stop())
		if log := a.Log(); strings.Contains(log, "does not allow") {
			t.Errorf("the agent lacks a right:\n%s", log)
		}
	}
	admin, err := d.api.Kubeconfig("admin", d.api.Token)
	must(t, err)
	job, _ := d.workload("reset.yaml", "Job")
	for i, h := range c.Hosts {
		if out, err := d.run(h, "reset.yaml", "Job", nil); err == nil || !strings.Contains(err.Error(), "containers are attached") {
			t.Errorf("reset with a pod: %s, %v", out, err)
		}
		must(t, containers[i].Remove())
		must(t, cluster.Until(30*time.Second, func() error { // the kernel removes a namespace's links by and by
			links, err := h.Output("ip", "-oneline", "link", "show", "type", "veth")
			if err == nil && strings.Contains(links, ": veth") { // the host's own is eth0
				err = fmt.Errorf("links of the container: %s", links)
			}
			return err
		}))
		out, err := d.run(h, "reset.yaml", "Job", nil)
		if err != nil || !strings.Contains(out, "removed node "+h.Name) {
			t.Errorf("reset: %s, %v", out, err)
		}
		left, err := h.Output("sh", "-c", "ls "+binDir+"; find /etc/cni /var/lib/berth -type f; nft list tables; ip -br link show type vxlan; ip -br link show type bridge")
		if err != nil || left != "loopback\n" {
			t.Errorf("left on %s: %q, %v", h.Name, left, err)
		}
		if i > 0 {
			continue
		}
		if out, err := d.definitions(admin); err == nil || !strings.Contains(err.Error(), c.Hosts[1].Name) {
			t.Errorf("delete the definitions beside a node that has Berth: %s, %v", out, err)
		}
	}
	for _, plural := range []string{"berthnodes", "berthblocks"} {
		text, err := d.api.Call(http.MethodGet, "/apis/"+Group+"/v1/"+plural, nil)
		if err != nil || !strings.Contains(string(text), `"items":[]`) {
			t.Errorf("%s: %s, %v", plural, text, err)
		}
	}
	if out, err := d.definitions(d.account(job, "")); err == nil || !strings.Contains(err.Error(), "does not allow") {
		t.Errorf("the Job may delete the definitions: %s, %v", out, err)
	}
	if out, err := d.definitions(admin); err != nil || !strings.Contains(out, "removed Berth's definitions") {
		t.Errorf("delete the definitions: %s, %v", out, err)
	}
	await(t, "no definitions", func() bool {
		text, err := d.api.Call(http.MethodGet, client.Definitions.Path(), nil)
		must(t, err)
		return !strings.Contains(string(text), Group)
	})
}

// definitions has the first host reset once more, and the definitions deleted with it.
func (d *deployed) definitions(kubeconfig string) (string, error) {
	return d.Hosts[0].Berth("node", "reset", "--definitions", "--store", "kubernetes", "--kubeconfig", kubeconfig, "--install-bin", binDir)
}

// agents starts the agents of new nodes.
func (d *deployed) agents(names ...string) (all []*cluster.Agent) {
	d.t.Helper()
	from := d.t.TempDir()
	bin, err := sandbox.Binaries()
	must(d.t, err)
	for _, name := range []string{"loopback", "vxlan-overlay"} {
		data, err := os.ReadFile(filepath.Join(bin, name))
		must(d.t, err)
		must(d.t, os.WriteFile(filepath.Join(from, name), data, 0o755))
	}
	p, config := d.workload("berth.yaml", "DaemonSet")
	for i, name := range names {
		h, err := d.Host(name, i+1)
		must(d.t, err)
		must(d.t, h.Script("mkdir -p /etc/cni/net.d "+binDir+"\ncp /bin/true "+binDir+"/loopback"))
		d.node(name)
		args := slices.Clone(p.args())
		args[slices.Index(args, "$(NODE_NAME)")] = name
		a, err := h.LaunchAgent(append(args[1:], "--config", config, "--install-from", from, "--install-bin", binDir, "--kubeconfig", d.account(p, name))...)
		must(d.t, err)
		all = append(all, a)
	}
	return all
}

// node makes a Node as a kubelet registers it, and the agent's pod on it.
func (d *deployed) node(name string) {
	d.t.Helper()
	_, err := d.api.Call(http.MethodPost, "/api/v1/nodes", map[string]any{"metadata": map[string]string{"name": name},
		"spec": map[string]any{"taints": []map[string]string{{"key": "berth.dev/agent-not-ready", "effect": "NoSchedule"}}}})
	must(d.t, err)
	_, err = d.api.Call(http.MethodPost, "/api/v1/namespaces/"+store.DefaultNamespace+"/pods", map[string]any{"metadata": map[string]string{"name": "agent-" + name},
		"spec": map[string]any{"nodeName": name, "serviceAccountName": "berth-agent", "automountServiceAccountToken": false,
			"containers": []map[string]string{{"name": "agent", "image": "none"}}}})
	must(d.t, err)
}

// attach has a pod on each node, once its agent lets pods come.
func (d *deployed) attach() (all []*sandbox.Container) {
	d.t.Helper()
	for _, h := range d.Hosts {
		await(d.t, "no taint on "+h.Name, func() bool {
			text, err := d.api.Call(http.MethodGet, "/api/v1/nodes/"+h.Name, nil)
			must(d.t, err)
			return !strings.Contains(string(text), "agent-not-ready")
		})
		conf, err := h.Output("cat", "/etc/cni/net.d/10-berth-pods.conflist")
		must(d.t, err)
		n, err := h.Network(conf, binDir)
		must(d.t, err)
		c, err := h.Container("pod-" + h.Name)
		must(d.t, err)
		_, err = n.AddJSON(c)
		must(d.t, err)
		all = append(all, c)
	}
	must(d.t, cluster.Until(30*time.Second, func() error { // the nodes know each other
		for _, h := range d.Hosts {
			if routes, err := h.Output("ip", "route", "show", "proto", "98"); err != nil || !strings.Contains(routes, " dev vxlan") {
				return fmt.Errorf("routes of %s: %q, %v", h.Name, routes, err)
			}
		}
		return nil
	}))
	return all
}

func (d *deployed) address(c *sandbox.Container) string {
	d.t.Helper()
	out, err := c.Output("ip", "-4", "-j", "addr", "show", "eth0")
	must(d.t, err)
	var links []struct {
		Addrs []struct{ Local netip.Addr } `json:"addr_info"`
	}
	must(d.t, json.Unmarshal([]byte(out), &links))
	return links[0].Addrs[0].Local.String()
}

// run runs what a Job runs.
func (d *deployed) run(h *cluster.Host, file, kind string, more []string) (string, error) {
	d.t.Helper()
	p, config := d.workload(file, kind)
	args := append(slices.Clone(p.args()), "--kubeconfig", d.account(p, ""))
	if file == "reset.yaml" {
		args[slices.Index(args, "/etc/berth/agent.yaml")] = config
		args = append(args, "--install-bin", binDir)
	}
	return h.Berth(append(args, more...)...)
}

// workload is one of a manifest, and the file of the agents' configuration.
func (d *deployed) workload(file, kind string) (found *pod, config string) {
	d.t.Helper()
	config = filepath.Join(d.t.TempDir(), "agent.yaml")
	for _, name := range []string{"berth.yaml", file} {
		text, err := os.ReadFile("../../deploy/" + name)
		must(d.t, err)
		for _, doc := range strings.Split(string(text), "\n---\n") {
			var p pod
			must(d.t, yaml.Unmarshal([]byte(doc), &p))
			if settings := p.Data["agent.yaml"]; settings != "" {
				must(d.t, os.WriteFile(config, []byte(settings), 0o644))
			}
			if p.Kind == kind {
				found = &p // that of file is the last
			}
		}
	}
	return found, config
}

func (p *pod) args() []string { return p.Spec.Template.Spec.Containers[0].Args }

// account is a kubeconfig with the token that the workload's pod gets, on a node.
func (d *deployed) account(p *pod, node string) string {
	d.t.Helper()
	name := p.Spec.Template.Spec.ServiceAccountName
	of := ""
	if node != "" {
		of = "agent-" + node
	}
	token, err := d.api.AccountToken(store.DefaultNamespace, name, of)
	must(d.t, err)
	config, err := d.api.Kubeconfig(name+node, token)
	must(d.t, err)
	return config
}
