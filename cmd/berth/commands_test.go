package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/overlay"
)

// transcript runs commands one after the other on one store, and writes what a
// person would see.
func transcript(t *testing.T, m *memory, commands ...string) string {
	t.Helper()
	var b strings.Builder
	for _, c := range commands {
		code, out, errs := berth(t, m, strings.Fields(c)...)
		fmt.Fprintf(&b, "$ berth %s\n%s", c, strings.ReplaceAll(out+errs, os.Getenv(conflist.Env), "NETDIR"))
		if code != 0 {
			fmt.Fprintf(&b, "[exit code %d]\n", code)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestNetworks(t *testing.T) {
	nstest.Host(t)
	for _, args := range [][]string{
		{"link", "add", "wire", "type", "veth", "peer", "name", "far"}, {"link", "set", "wire", "up"},
		{"address", "add", "172.20.0.1/16", "dev", "wire"},
		{"link", "add", "overlay4097", "type", "bridge"}, {"link", "set", "overlay4097", "up"},
		{"address", "add", "10.42.3.1/24", "dev", "overlay4097"},
	} {
		if err := nstest.Run("ip", args...); err != nil {
			t.Fatal(err)
		}
	}
	const create = "network create --driver vxlan-overlay "
	golden(t, "networks.txt", transcript(t, example(),
		"network ls",
		"network ls --format json",
		"network inspect --format table green",
		"network inspect -v green",
		"network inspect --format json blue",
		"network inspect red",
		create+"--subnet 10.45.0.0/16 --vni 9 red",
		create+"--subnet 10.46.0.0/16,fd00:46::/48 --node-prefix 26,64 --udp-port 4790 --mtu 1400 --internal --isolate --no-icc --label a=b --label c=d pink",
		create+"--subnet 10.42.0.0/15 --vni 77 blue",
		create+"--encrypted --vni 5001 --subnet 10.48.0.0/16 secret",
		create+"--opt encrypted --vni 5002 --udp-port 51820 --subnet 10.49.0.0/16 hidden",
		create+"-o encrypted= -o com.docker.network.driver.mtu=1400 --subnet 10.49.0.0/16 hidden",
		"network create --encrypted --subnet 10.49.0.0/16 hidden",
		create+"--ignore --encrypted --subnet 10.99.0.0/16 secret",
		"network inspect --format table secret",
		"network conflist secret",
		create+"--subnet 172.20.4.0/24 grey",
		create+"--subnet 10.42.0.1/16 --mtu 3 a/b",
		create+"--node-prefix 40 --subnet 10.47.0.0/16 grey",
		"network inspect --format table pink",
		"network conflist pink",
		"network conflist grey",
		"network rm blue pink grey",
		"network rm --force blue",
		"network ls",
	))
}

// TestChosenSubnets: without --subnet a network gets one that nobody has, with --ipv6 another of
// IPv6.
func TestChosenSubnets(t *testing.T) {
	m := &memory{state: overlay.NewState()}
	for _, c := range []struct{ command, want string }{
		{"one", "IPv4/16"}, {"--ipv6 two", "IPv4/16 IPv6/48"}, {"--ipv6 --subnet 10.50.0.0/16 three", "IPv4/16 IPv6/48"},
		{"--ipv6 --subnet fd00:1::/48 four", "IPv6/48"},
	} {
		words := strings.Fields("network create -d overlay --vni " + strconv.Itoa(5000+len(m.state.Networks)) + " " + c.command)
		if code, _, errs := berth(t, m, words...); code != 0 {
			t.Fatalf("%s: %d, %s", c.command, code, errs)
		}
		var got []string
		for _, p := range m.state.Networks[words[len(words)-1]].Subnets {
			got = append(got, map[bool]string{true: "IPv4", false: "IPv6"}[p.Addr().Is4()]+"/"+strconv.Itoa(p.Bits()))
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s: subnets %s, want %s", c.command, text, c.want)
		}
	}
	if conflicts := m.state.Conflicts(); len(conflicts) > 0 {
		t.Error(conflicts)
	}
}

func TestNodes(t *testing.T) {
	golden(t, "nodes.txt", transcript(t, example(),
		"node ls",
		"node ls --format json",
		"node inspect host-a",
		"node inspect host-z",
		"node prune --away 720h --dry-run",
		"node prune --away 720h",
		"node prune --away 9000h",
		"node rm host-a host-z",
		"node prune --away 720h --yes",
		"node rm --force host-a",
		"node ls",
	))
}

// What a node says of itself to the store is not for everybody.
func TestNoSecrets(t *testing.T) {
	for _, c := range []string{"node ls --format json", "node inspect --format json host-a", "network inspect --format json blue"} {
		if _, out, _ := berth(t, example(), strings.Fields(c)...); strings.Contains(out, "secret") || out == "" {
			t.Errorf("berth %s:\n%s", c, out)
		}
	}
}

func TestStoreAway(t *testing.T) {
	m := example()
	m.err = errors.New("connection refused")
	for _, c := range []string{"node ls", "node prune --away 6h", "network create --driver vxlan-overlay --subnet 10.50.0.0/16 x"} {
		code, out, errs := berth(t, m, strings.Fields(c)...)
		if code != exitFailed || out != "" || !strings.Contains(errs, "read etcd at http://127.0.0.1:2379: connection refused") {
			t.Errorf("berth %s: %d, %q, %q", c, code, out, errs)
		}
	}
	m.err = fmt.Errorf("read /berth/v1/: %w", context.DeadlineExceeded)
	if _, _, errs := berth(t, m, "node", "ls"); !strings.HasPrefix(errs, "berth: etcd at http://127.0.0.1:2379 does not answer: ") {
		t.Error(errs)
	}
}

// What the store says does nothing to a terminal or a shell.
func TestUntrusted(t *testing.T) {
	m := example()
	n := m.state.Networks["green"]
	n.Labels = map[string]string{"a": "\x1b[2Jgone", "b": "rouge et d'or"}
	m.state.Apply(overlay.Update{Networks: []overlay.Network{n}})
	_, out, _ := berth(t, m, "network", "inspect", "--format", "table", "green")
	if strings.Contains(out, "\x1b") || !strings.Contains(out, `"a=\x1b[2Jgone"`) || !strings.Contains(out, "b=rouge et d'or\n") {
		t.Errorf("%q", out)
	}
}

// A store that is away keeps nobody from the networks of this host.
func TestStoreAwayWarns(t *testing.T) {
	m := example()
	m.err = errors.New("connection refused")
	code, out, errs := berth(t, m, "network", "ls", "--format", "{{.Name}}")
	if code != 0 || out != "host\nnone\n" || !strings.Contains(errs, "warning: the networks that span hosts are not known: read etcd at http://127.0.0.1:2379: connection refused") {
		t.Errorf("%d, %q, %q", code, out, errs)
	}
	code, _, errs = berth(t, m, "network", "inspect", "blue")
	if code != exitFailed || !strings.Contains(errs, "network blue: ") {
		t.Errorf("%d, %q", code, errs)
	}
}

func TestEmptyStore(t *testing.T) {
	m := &memory{state: example().state}
	for _, c := range []string{"network rm --force blue green", "node rm --force host-a host-b host-c"} {
		if code, _, errs := berth(t, m, strings.Fields(c)...); code != 0 {
			t.Fatal(errs)
		}
	}
	for _, c := range []string{"node ls --format json"} {
		var all []any
		if _, out, _ := berth(t, m, strings.Fields(c)...); json.Unmarshal([]byte(out), &all) != nil || all == nil {
			t.Errorf("berth %s: %q, want an empty list", c, out)
		}
	}
}
