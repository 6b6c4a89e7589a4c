package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/spf13/pflag"
)

// dockers are the flags of Docker 29's 'docker network', without --help.
var dockers = map[string]string{
	"create": "attachable aux-address config-from config-only d,driver gateway ingress internal ip-range ipam-driver ipam-opt " +
		"ipv4 ipv6 label o,opt scope subnet",
	"connect":    "alias driver-opt gw-priority ip ip6 link link-local-ip",
	"disconnect": "f,force",
	"inspect":    "f,format v,verbose",
	"ls":         "f,filter format no-trunc q,quiet",
	"prune":      "filter f,force",
	"rm":         "f,force",
}

// TestDockerFlags: the table of docs/docker.md has each flag of Docker's once, with its letter,
// and says what the program does.
func TestDockerFlags(t *testing.T) {
	page, err := os.ReadFile("../../docs/docker.md")
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| (\\w+) \\| (?:`-(\\w)`, )?`--([\\w-]+)` \\| (same|more|no effect|refused) \\|").FindAllStringSubmatch(string(page), -1) {
		key := m[1] + " " + strings.TrimPrefix(m[2]+","+m[3], ",")
		if said[key] != "" {
			t.Errorf("%s is in the table twice", key)
		}
		said[key] = m[4]
	}
	root := (&program{}).root()
	want := 0
	for command, flags := range dockers {
		c, _, err := root.Find([]string{"network", command})
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range strings.Fields(flags) {
			want++
			letter, name, short := strings.Cut(word, ",")
			if !short {
				letter, name = "", word
			}
			f := c.Flags().Lookup(name)
			if f == nil || f.Shorthand != letter {
				t.Errorf("network %s has no flag %s", command, word)
				continue
			}
			switch what := said[command+" "+word]; {
			case what == "":
				t.Errorf("docs/docker.md does not say what %s --%s is", command, name)
			case (what == "refused") != refuses(f):
				t.Errorf("docs/docker.md says that %s --%s is %s", command, name, what)
			}
		}
	}
	if len(said) != want {
		t.Errorf("the table has %d flags, Docker %d", len(said), want)
	}
}

// refuses tells whether a flag takes nothing that asks for something.
func refuses(f *pflag.Flag) bool {
	return !slices.ContainsFunc([]string{"true", "default", "local", "7", "a=b", "name=a", "label=a", "192.0.2.1", "fd00::1", "192.0.2.0/24", "json", "bridge",
		"com.docker.network.endpoint.ifname=x"}, func(s string) bool { return f.Value.Set(s) == nil })
}

// TestDockerCreate: what Docker's create takes is taken, or refused with a reason.
func TestDockerCreate(t *testing.T) {
	nstest.Host(t)
	ip(t, "link add wire type veth peer name far")
	ip(t, "link set wire up")
	p := newDesk(t, "address-pools: [172.18.0.0/15:16, 'fd00:77::/48:64']\n")
	golden(t, "docker-create.txt", p.transcript(
		"network create --attachable --scope local --ipam-driver default --ingress=false web",
		"network create --scope swarm swarm",
		"network create --ipam-driver host-local other",
		"network create --ingress other",
		"network create --config-only other",
		"network create --config-from other other",
		"network create --ipam-opt a=b other",
		"network create -d null --label a=b alone",
		"network create -d null --subnet 10.1.0.0/24 -o parent=wire other",
		"network create --ipv4=false other",
		"network create --ipv4=false --ipv6 six",
		"network create --ipv4=false --subnet 10.1.0.0/24 --ipv6 other",
		"network create --ipv4 --subnet fd00:1::/64 both",
		"network create -o com.docker.network.bridge.host_binding_ipv4=127.0.0.1 -o com.docker.network.bridge.inhibit_ipv4=false --subnet 10.2.0.0/24 bound",
		"network create --subnet 172.17.0.0/16 bridge",
		"network create --subnet 172.16.0.0/16 bridge",
		"network create -d macvlan -o parent=wire --subnet 172.16.0.0/16 bridge",
		"network ls -f type=builtin --format '{{.Name}} {{.Driver}} {{.Subnets}} {{.Isolate}} {{.Names}}'",
		"network prune --dry-run --filter label!=a",
		"network create -o com.docker.network.bridge.host_binding_ipv4=::1 -o com.docker.network.bridge.inhibit_ipv4=true -o com.docker.network.container_iface_prefix=web other",
		"network ls --format 'table {{.Name}}\\t{{.Driver}}\\t{{join .Subnets \" \"}}' -f type=custom",
		"network conflist alone",
		"network conflist bound",
		"network connect --link-local-ip 169.254.1.1 web box",
		"network connect --driver-opt a=b web box",
		"network rm alone six",
	))
}
