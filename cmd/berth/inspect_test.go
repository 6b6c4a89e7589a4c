package main

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/firewall/ruleset"
	"github.com/berth-cni/berth/pkg/inspect"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/nstest"
)

// A host as it is: bridges and pairs made by hand, and records of them.
func TestHostIsDrawnAndInspected(t *testing.T) {
	nstest.Host(t)
	dir, web := realHost(t)
	golden(t, "graph.txt", realWords(web, transcript(t, nil, "graph --state-dir "+dir, "graph --ascii --most 1 --state-dir "+dir), dir))
	code, out, errs := berth(t, nil, "inspect", "web", "--state-dir", dir)
	var all []struct {
		Name, Container string
		Attachments     []struct {
			Namespace string
			Record    struct{ Steps []struct{ Kind string } }
			HostEnd   *inspect.Link
			Firewall  []ruleset.Element
			Check     inspect.Check
		}
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil || code != exitDone || len(all) != 1 || len(all[0].Attachments) != 1 {
		t.Fatalf("%d, %v\n%s%s", code, err, out, errs)
	}
	a := all[0].Attachments[0]
	if a.Namespace != "there" || len(a.Record.Steps) != 4 || a.HostEnd == nil || a.HostEnd.Master != "br-blue" || a.HostEnd.Counters.ReceivedPackets == 0 {
		t.Errorf("%+v, %+v", a, a.HostEnd)
	}
	want := []ruleset.Element{{In: "own4", Text: "10.88.0.2 . br-blue"}, {In: "ports4", Text: "tcp . 8080 : 10.88.0.2 . 80"}}
	if !slices.Equal(a.Firewall, want) {
		t.Errorf("%v, want %v", a.Firewall, want)
	}
	if a.Check.OK || len(a.Check.Problems) != 1 || !strings.Contains(a.Check.Problems[0], "no berth agent") {
		t.Errorf("%+v", a.Check)
	}
	if err := nstest.Run("ip", "link", "set", "br-blue", "down"); err != nil {
		t.Fatal(err)
	}
	if _, out, _ = berth(t, nil, "inspect", "--type", "network", "blue", "--state-dir", dir); !strings.Contains(out, "interface br-blue is down") {
		t.Error(out)
	}
	if _, out, _ = berth(t, nil, "graph", "--state-dir", dir); !strings.Contains(out, "! bridge br-blue is down") {
		t.Error(out)
	}
}

func TestInspectWords(t *testing.T) {
	nstest.Host(t)
	dir := stateOf(t, []attach.Network{{Name: "blue", Plugin: "bridge", Link: "br-blue"}}, people()...)
	id := people()[0].Container
	for _, word := range []string{id, id[:7], "web", "api", "BACKEND", "default/nginx-7\x1b[2J"} {
		code, out, errs := berth(t, nil, "inspect", word, "--format", "{{.Name}} {{len .Attachments}}", "--state-dir", dir)
		want := "web 2\n"
		if strings.HasPrefix(word, "default") {
			want = "nginx-7\x1b[2J 1\n"
		}
		if code != exitDone || out != want {
			t.Errorf("%q: %d, %q, %s", word, code, out, errs)
		}
	}
	code, out, errs := berth(t, nil, "inspect", "blue", "nobody", "--format", "{{.Kind}} {{.Name}} {{len .Attachments}}", "--state-dir", dir)
	if code != exitFailed || out != "network blue 2\n" || !strings.Contains(errs, "nobody: this host has no such container or network") {
		t.Errorf("%d, %q, %q", code, out, errs)
	}
	code, out, errs = berth(t, nil, "inspect", "nobody", "--state-dir", dir)
	if code != exitFailed || out != "[]\n" {
		t.Errorf("%d, %q, %q", code, out, errs)
	}
}

// realHost makes a bridge with a container, and another record whose container is
// gone.
func realHost(t *testing.T) (dir string, web *attach.Attachment) {
	t.Helper()
	path := nstest.Namespace(t)
	inside := filepath.Base(path)
	ns, err := netns.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	web = withAddresses(attached("blue", "web", "eth0", "bridge", &link.Bridge{Name: "br-blue", Gateway: true}, &link.Veth{Bridge: "br-blue"},
		&names.Register{Bridge: "br-blue", Names: []string{"web", "api"}}), "10.88.0.2/24")
	web.Addresses[0].Gateway = netip.MustParseAddr("10.88.0.1")
	web.Netns, web.MAC = path, "02:42:0a:58:00:02"
	web.Ports = []attach.Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}
	if web.Cookie, err = ns.Cookie(); err != nil {
		t.Fatal(err)
	}
	web.Steps = append(web.Steps, &firewall.Rules{Backend: firewall.NFTables, Bridge: "br-blue"})
	for _, line := range []string{
		"link add wire type veth peer name far", "link set wire up", "link set far up", "address add 192.0.2.1/24 dev wire", "route add default via 192.0.2.254",
		"link add br-blue type bridge", "link set br-blue up", "address add 10.88.0.1/24 dev br-blue",
		"link add " + web.HostIfName() + " master br-blue up type veth peer name eth0 address " + web.MAC + " netns " + inside,
		"-n " + inside + " link set eth0 up", "-n " + inside + " address add 10.88.0.2/24 dev eth0",
	} {
		if err := nstest.Run("ip", strings.Fields(line)...); err != nil {
			t.Fatal(err)
		}
	}
	for path, value := range map[string]string{"ipv4/ip_forward": "1", "ipv6/conf/br-blue/accept_ra": "0", "ipv4/conf/br-blue/route_localnet": "1"} {
		if err := os.WriteFile("/proc/sys/net/"+path, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	nstest.In(t, path, func() {
		if err := nstest.Run("ping", "-c", "1", "-W", "2", "10.88.0.1"); err != nil {
			t.Error(err)
		}
	})
	gone := withAddresses(attached("blue", "gone", "eth0", "bridge", &link.Bridge{Name: "br-blue"}, &link.Veth{Bridge: "br-blue"}), "10.88.0.3/24")
	return stateOf(t, []attach.Network{{Name: "blue", Plugin: "bridge", Link: "br-blue"}}, web, gone), web
}

// realWords is a transcript without what another run has otherwise.
func realWords(web *attach.Attachment, text, dir string) string {
	host, _ := os.Hostname()
	return strings.NewReplacer(dir, "DIR", "\n"+host+"\n", "\nHOST\n", web.Netns, "NETNS").Replace(text)
}
