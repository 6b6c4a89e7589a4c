package runtimes

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// pod is one that runs the test server on port 80, over TCP and UDP.
type pod struct {
	*daemon
	name, id  string
	container string
	config    *cri.PodSandboxConfig
	ip4, ip6  string
}

func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// onlyIPv4 above a pod's host port is another one, on the host's IPv4 address alone.
const onlyIPv4 = 1000

func (d *daemon) podConfig(name string, hostPort int32) *cri.PodSandboxConfig {
	c := &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: name, Uid: name + "-uid", Namespace: "default"},
		Hostname: name, DnsConfig: d.dns,
		Linux: &cri.LinuxPodSandboxConfig{CgroupParent: d.cgroup, SecurityContext: &cri.LinuxSandboxSecurityContext{}},
	}
	if hostPort != 0 {
		for _, protocol := range []cri.Protocol{cri.Protocol_TCP, cri.Protocol_UDP} {
			c.PortMappings = append(c.PortMappings,
				&cri.PortMapping{Protocol: protocol, ContainerPort: 80, HostPort: hostPort},
				&cri.PortMapping{Protocol: protocol, ContainerPort: 80, HostPort: hostPort + onlyIPv4, HostIp: sandbox.HostAddr4})
		}
	}
	return c
}

// runPod starts a pod; hostPort 0 publishes nothing.
func (d *daemon) runPod(t testing.TB, name string, hostPort int32) (*pod, error) {
	t.Helper()
	return d.runPodOn(t, "", name, 80, hostPort)
}

// runPodOn is runPod with a runtime handler, which has a network of its own, and the
// port that the server listens on.
func (d *daemon) runPodOn(t testing.TB, handler, name string, port, hostPort int32) (*pod, error) {
	t.Helper()
	p := &pod{daemon: d, name: name, config: d.podConfig(name, hostPort)}
	ctx := deadline(t)
	made, err := d.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: p.config, RuntimeHandler: handler})
	if err != nil {
		return nil, err
	}
	p.id = made.PodSandboxId
	c, err := d.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: p.id, SandboxConfig: p.config, Config: &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "server"}, Image: &cri.ImageSpec{Image: image},
		Args: []string{"serve", name, fmt.Sprint(port)}, Linux: &cri.LinuxContainerConfig{},
	}})
	if err != nil {
		return p, err
	}
	p.container = c.ContainerId
	if _, err := d.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: p.container}); err != nil {
		return p, err
	}
	if err := listening(p.ask, port); err != nil {
		return p, err
	}
	return p, p.readAddresses(ctx)
}

func (d *daemon) pod(t testing.TB, name string, hostPort int32) *pod {
	t.Helper()
	p, err := d.runPod(t, name, hostPort)
	must(t, err)
	return p
}

func (p *pod) readAddresses(ctx context.Context) error {
	r, err := p.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: p.id})
	if err != nil {
		return err
	}
	all := []string{r.Status.Network.Ip}
	for _, ip := range r.Status.Network.AdditionalIps {
		all = append(all, ip.Ip)
	}
	for _, ip := range all {
		if strings.Contains(ip, ":") {
			p.ip6 = ip
		} else {
			p.ip4 = ip
		}
	}
	if p.ip4 == "" || p.ip6 == "" {
		return fmt.Errorf("pod %s has the addresses %q, want one of each family", p.name, all)
	}
	return nil
}

// ask runs the test server's client in the pod's container.
func (p *pod) ask(network, address string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := p.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: p.container, Cmd: []string{"/server", "ask", network, address}, Timeout: 8})
	if err != nil {
		return "", err
	}
	if r.ExitCode != 0 {
		return "", fmt.Errorf("in pod %s: exit %d: %s", p.name, r.ExitCode, r.Stderr)
	}
	return string(r.Stdout), nil
}

// netns is the path of the pod's network namespace.
func (p *pod) netns(t testing.TB) string {
	t.Helper()
	r, err := p.PodSandboxStatus(deadline(t), &cri.PodSandboxStatusRequest{PodSandboxId: p.id, Verbose: true})
	must(t, err)
	var info struct {
		RuntimeSpec struct {
			Linux struct {
				Namespaces []struct{ Type, Path string }
			}
		}
	}
	must(t, json.Unmarshal([]byte(r.Info["info"]), &info))
	for _, ns := range info.RuntimeSpec.Linux.Namespaces {
		if ns.Type == "network" {
			return ns.Path
		}
	}
	t.Fatalf("pod %s has no network namespace: %s", p.name, r.Info["info"])
	return ""
}

func (p *pod) stop(t testing.TB) {
	t.Helper()
	_, err := p.StopPodSandbox(deadline(t), &cri.StopPodSandboxRequest{PodSandboxId: p.id})
	must(t, err)
}

func (p *pod) remove(t testing.TB) {
	t.Helper()
	_, err := p.RemovePodSandbox(deadline(t), &cri.RemovePodSandboxRequest{PodSandboxId: p.id})
	must(t, err)
}
