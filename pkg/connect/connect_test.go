package connect

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/network"
	"github.com/berth-cni/berth/pkg/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func TestFind(t *testing.T) {
	nstest.Host(t)
	var records []*attach.Attachment
	path := nstest.Namespace(t)
	fresh := nstest.Namespace(t)
	for _, id := range []string{"aa11", "aa22", "b"} {
		a := &attach.Attachment{Key: attach.Key{Network: "n", Container: id, IfName: "eth0"}, Plugin: "bridge",
			Netns: nstest.Namespace(t), Args: map[string]string{"K8S_POD_NAME": "name-" + id}}
		if id == "b" {
			a.Netns, a.Cookie = path, cookie(t, path)
		}
		records = append(records, a)
	}
	for word, want := range map[string]string{
		"aa11": "aa11", "aa1": "aa11", "name-aa22": "aa22", path: "b", fresh: fmt.Sprintf("netns-%x", cookie(t, fresh)),
		"aa": "2 containers", "none": "there is no container", "/nowhere": "there is no such namespace",
		"999999999": "there is no such namespace", "/proc/thread-self/ns/net": "host's network",
	} {
		c, err := find(records, word)
		switch {
		case err != nil && !strings.Contains(err.Error(), want):
			t.Errorf("%s: %v", word, err)
		case err == nil && c.id != want:
			t.Errorf("%s: %s, want %s", word, c.id, want)
		case err == nil && c.netns == "":
			t.Errorf("%s: no namespace", word)
		}
	}
}

func cookie(t *testing.T, path string) uint64 {
	t.Helper()
	c, err := find(nil, path)
	if err != nil {
		t.Fatal(err)
	}
	return c.cookie
}

func TestPublish(t *testing.T) {
	for word, want := range map[string]string{
		"8080:80": "[port 8080/tcp]80", "8080:80/udp": "[port 8080/udp]80", "127.0.0.1:53:5353/udp": "[port 127.0.0.1:53/udp]5353",
		"[fd00::1]:80:80": "[port [fd00::1]:80/tcp]80", "8000-8001:80-81": "[port 8000/tcp port 8001/tcp]80",
		"80": "", "": "", "a:80": "", "80:0": "", "80:65536": "", "8000-8002:80-81": "", "81-80:80-81": "", "80:80/icmp": "", "x:80:80": "", "80:80/": "",
	} {
		ports, err := ParsePorts(word)
		if (err != nil) != (want == "") {
			t.Errorf("%q: %v, %v", word, ports, err)
		}
		if err == nil && fmt.Sprint(ports, ports[0].ContainerPort) != strings.Replace(want, "]", "] ", 1) && !strings.HasPrefix(word, "[") {
			t.Errorf("%q: %v %d, want %s", word, ports, ports[0].ContainerPort, want)
		}
	}
}

// speak is a plugin that writes down how it was called, and answers with a result.
const speak = `#!/bin/sh
{ echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_ARGS $BERTH_STATE_DIR"; cat; echo; } >> "$0.said"
echo '{"cniVersion": "1.0.0", "interfaces": [{"name": "eth1", "sandbox": "/x"}], "ips": []}'
`

// fail is one that answers with an error.
const fail = `#!/bin/sh
echo '{"cniVersion": "1.0.0", "code": 7, "msg": "no address is free", "details": "of 10.9.0.0/24"}'
exit 1
`

// TestAdd has a chain of plugins add: each is told the network's name and version, what
// is wanted goes to the first, and the second gets the first one's result.
func TestAdd(t *testing.T) {
	dir, bin, state := t.TempDir(), t.TempDir(), t.TempDir()
	plugin := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	plugin("bridge", speak)
	plugin("macvlan", speak)
	text := `{"cniVersions": ["0.4.0", "1.0.0"], "name": "n", "plugins": [{"type": "bridge", "mtu": 1400}, {"type": "macvlan", "capabilities": {"aliases": true}}]}`
	if err := os.WriteFile(filepath.Join(dir, "n.conflist"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	files, err := conflist.Dir(dir).List()
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Networks: &network.Host{Store: attach.New(state, cni.Decode)}, PluginDirs: []string{"/nowhere", bin}, Stderr: io.Discard}
	o := &Options{IPs: []netip.Addr{netip.MustParseAddr("10.9.0.7")}, Aliases: []string{"db"}, MAC: "02:00:00:00:00:07"}
	to, k := &container{id: "c", name: "web", netns: "/run/netns/c"}, attach.Key{Network: "n", Container: "c", IfName: "eth1"}
	if err := c.add(t.Context(), o, files[0], to, k); err != nil {
		t.Fatal(err)
	}
	for name, wants := range map[string][]string{
		"bridge": {"ADD c eth1 IgnoreUnknown=1;" + cni.ArgConnected + "=" + cni.Connected + ";K8S_POD_NAME=web;IP=10.9.0.7;MAC=02:00:00:00:00:07 " + state + "\n",
			`"cniVersion":"1.0.0"`, `"name":"n"`, `"mtu":1400`, `"runtimeConfig":{"aliases":["db"]}`},
		"macvlan": {"ADD c eth1 ", `"prevResult":{`, `"name":"eth1"`},
	} {
		said, err := os.ReadFile(filepath.Join(bin, name+".said"))
		for _, want := range wants {
			if err != nil || !strings.Contains(string(said), want) {
				t.Errorf("%s: no %q in %s, %v", name, want, said, err)
			}
		}
		if name == "macvlan" && strings.Contains(string(said), "runtimeConfig") {
			t.Errorf("what is wanted goes to the second plugin, too: %s", said)
		}
	}
	plugin("macvlan", fail)
	if err := c.add(t.Context(), o, files[0], to, k); err == nil || err.Error() != "no address is free; of 10.9.0.0/24" {
		t.Errorf("a plugin that fails: %v", err)
	}
	if err := os.Remove(filepath.Join(bin, "macvlan")); err != nil {
		t.Fatal(err)
	}
	if err := c.add(t.Context(), o, files[0], to, k); err == nil || !strings.Contains(err.Error(), "the plugin macvlan is not in /nowhere:"+bin+": --bin-dir") {
		t.Errorf("a plugin that is not there: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "berth-connect-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
