package overlay

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// TestReset: 'berth node reset' leaves a host as it was before Berth came, but for what it
// says, and the store without it; and it cuts nobody off who has not said so.
func TestReset(t *testing.T) {
	for _, firewall := range []string{"nftables", "iptables"} {
		t.Run(firewall, func(t *testing.T) { reset(t, firewall) })
	}
}

func reset(t *testing.T, firewall string) {
	b := newBed(t, 1, options{firewall: firewall})
	b.create("hidden", "--encrypted", "--subnet", "10.43.0.0/16")
	h, err := b.Host("z", 9)
	must(t, err)
	for _, program := range []string{"iptables", "ip6tables"} { // whose own chains come with the first use, and stay
		must(t, h.Script(program+" -P FORWARD DROP\n"+program+" -P INPUT ACCEPT\n"+program+" -t raw -P PREROUTING ACCEPT"))
		for _, chain := range []string{"PREROUTING", "OUTPUT", "POSTROUTING"} {
			must(t, h.Script(program+" -t nat -P "+chain+" ACCEPT"))
		}
	}
	before, err := h.Snapshot()
	must(t, err)

	from := t.TempDir()
	for _, name := range []string{"bridge", "vxlan-overlay"} {
		data, err := os.ReadFile(filepath.Join(b.bin, name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(from, name), data, 0o755))
	}
	const bin, conf = "/run/plugins", "/etc/cni/net.d"
	must(t, h.Script("mkdir -p "+conf+" "+bin+"\n cp /bin/true "+bin+"/bridge\n cp /bin/true "+conf+"/99-other.txt"))
	agent, err := h.Agent(append(b.flags(h), "--install-bin", bin, "--install-from", from, "--conf-dir", conf, "--default-network", "blue")...)
	must(t, err)
	b.agents[h] = agent
	_, err = h.Berth("network", "create", "--subnet", "172.31.0.0/24", "web")
	must(t, err)
	web, err := h.Network(`{"cniVersion": "1.0.0", "name": "web", "plugins": [{"type": "bridge", "bridge": "br-web", "isGateway": true, "ipMasq": true,
		"firewallBackend": "`+firewall+`", "capabilities": {"portMappings": true}, "ipam": {"subnet": "172.31.0.0/24"}}]}`, b.bin)
	must(t, err)
	p := b.container(h, "pod", "blue", "hidden")
	_, err = web.AddJSON(p.Container, sandbox.IfName("eth7"), sandbox.Cap("portMappings", []map[string]any{{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}}))
	must(t, err)

	command := append([]string{"node", "reset", "--install-bin", bin, "--net-dir", conf}, b.where()...)
	refused := func(why string, more ...string) {
		t.Helper()
		if out, err := h.Berth(append(command, more...)...); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("reset %v: %v, want %q\n%s", more, err, why, out)
		}
	}
	refused("stop it first", "--force")
	must(t, agent.Stop())
	refused("--force cuts them off")
	with, err := h.Snapshot()
	must(t, err)
	plan, err := h.Berth(append(command, "--force", "--dry-run")...)
	must(t, err)
	after, err := h.Snapshot()
	must(t, err)
	if diff := with.Without("conntrack").Diff(after.Without("conntrack")); len(diff) > 0 { // the other host probes on
		t.Errorf("the dry run changed\n%s", strings.Join(diff, "\n"))
	}
	done, err := h.Berth(append(command, "--force")...)
	must(t, err)
	for _, what := range []string{"10-berth-blue.conflist", "net-hidden.conflist", "web.conflist", "br-web", "pod (network blue, eth0)", "berth-vxlan-overlay", "node z with its blocks"} {
		if !strings.Contains(plan, what) || !strings.Contains(done, what) {
			t.Errorf("it does not speak of %s:\n%s%s", what, plan, done)
		}
	}
	must(t, p.Remove())
	must(t, h.Script("rm "+bin+"/bridge "+conf+"/99-other.txt")) // another suite's, which is still there
	after, err = h.Snapshot()
	must(t, err)
	// Left are forwarding, with what the kernel makes of it, and what is not Berth's: logs of
	// the test, the runtime's cache.
	diff := slices.DeleteFunc(before.Without("conntrack").Diff(after.Without("conntrack")), func(line string) bool {
		return slices.ContainsFunc([]string{"forwarding = ", "ip_forward = ", "/eth0/accept_ra = ", ": anycast ", ": /run/log/", ": /var/lib/cni/"},
			func(part string) bool { return strings.Contains(line, part) })
	})
	if len(diff) > 0 {
		t.Errorf("the host is not what it was:\n%s", strings.Join(diff, "\n"))
	}
	if out, err := h.Output("find", "/var/lib/berth", bin, "/etc/cni", "-type", "f"); err != nil || out != "" {
		t.Errorf("files are left: %v\n%s", err, out)
	}
	if nodes := b.berth("node", "ls"); strings.Contains(nodes, h.Addr4.String()) {
		t.Errorf("the store has the node still:\n%s", nodes)
	}
	if _, err := h.Berth(append(command, "--force")...); err != nil {
		t.Errorf("once more: %v", err)
	}
	must(t, agent.Start()) // and the host can come back
	delete(b.agents, h)
}
