package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/nstest"
)

// inert is a step of a record that adds and deletes nothing: what it stands for, the
// test has made, or not.
type inert struct{ attach.Step }

func (inert) Add(context.Context, *attach.Adding) error { return nil }
func (i inert) MarshalJSON() ([]byte, error)            { return json.Marshal(i.Step) }

// stateOf makes a store with these records, on tmpfs.
func stateOf(t *testing.T, networks []attach.Network, all ...*attach.Attachment) string {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "state")
	if err != nil {
		t.Fatal(err)
	}
	s := attach.New(dir, cni.Decode)
	for _, a := range all {
		err := s.Add(t.Context(), &attach.Adding{Attachment: a})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(all) > 0 {
		err := s.Update(t.Context(), func(tx *attach.Tx) error {
			for _, n := range networks {
				if err := tx.PutNetwork(n); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// attached is a record of a container with a fixed ID.
func attached(network, name, ifName, plugin string, steps ...attach.Step) *attach.Attachment {
	a := &attach.Attachment{Key: attach.Key{Network: network, Container: fmt.Sprintf("%x", attach.Digest([]byte(name))), IfName: ifName},
		Plugin: plugin, Netns: "/run/netns/" + name, Created: noon.Add(-90 * time.Minute)}
	for _, s := range steps {
		a.Steps = append(a.Steps, inert{s})
	}
	return a
}

func withAddresses(a *attach.Attachment, prefixes ...string) *attach.Attachment {
	for _, p := range prefixes {
		a.Addresses = append(a.Addresses, attach.Address{Prefix: netip.MustParsePrefix(p)})
	}
	return a
}

// people are records as a host with several modes has them. Nothing of them is there.
func people() []*attach.Attachment {
	veth := func(bridge string, called ...string) []attach.Step {
		steps := []attach.Step{&link.Bridge{Name: bridge}, &link.Veth{Bridge: bridge}}
		if len(called) > 0 {
			steps = append(steps, &names.Register{Bridge: bridge, Names: called})
		}
		return steps
	}
	web := withAddresses(attached("blue", "web", "eth0", "bridge", veth("br-blue", "web", "api")...), "10.88.0.2/24", "fd00:88::2/64")
	web.MAC = "02:42:0a:58:00:02"
	web.Ports = []attach.Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"},
		{HostIP: netip.MustParseAddr("fd00::1"), HostPort: 53, ContainerPort: 5353, Protocol: "udp"}}
	second := withAddresses(attached("green", "web", "eth1", "bridge", veth("br-green", "web", "backend")...), "172.20.0.2/16")
	pod := withAddresses(attached("blue", "pod", "eth0", "bridge", veth("br-blue")...), "10.88.0.3/24")
	pod.Args = map[string]string{"K8S_POD_NAME": "nginx-7\x1b[2J", "K8S_POD_NAMESPACE": "default"}
	pod.Created = noon.Add(-3 * time.Second)
	return []*attach.Attachment{web, second, pod, attached("none", "batch", "eth0", "none", &link.Loopback{}),
		attached("host", "proxy", "eth0", "host", &netns.Rebind{})}
}

func TestHelpOfWhatIsShown(t *testing.T) {
	t.Setenv("BERTH_STATE_DIR", "")
	t.Setenv("BERTH_DATA_DIR", "")
	for _, c := range []string{"ps", "inspect", "graph"} {
		var out bytes.Buffer
		if code := run(t.Context(), &program{out: &out, err: io.Discard}, c, "--help"); code != 0 {
			t.Errorf("%s: exit code %d", c, code)
		}
		golden(t, "help/berth-"+c+".txt", out.String())
	}
}

func TestPs(t *testing.T) {
	nstest.Host(t)
	dir := stateOf(t, nil, people()...)
	in := func(c string) string { return c + " --state-dir " + dir }
	text := transcript(t, nil,
		in("ps"), in("ps --wide"), in("ps -q"), in("ps -q -n 1"), in("ps -q -l"), in("ps -a --no-trunc -f status=running"), in("ps -a -f status=exited -f id=a68da --format {{.ID}}:{{.State}}:{{.Status}}"),
		in("ps --format json --filter network=green"),
		in("ps --format {{.Name}}:{{.Addresses}}:{{.Ports}} --filter name=api"),
		in("ps --filter network=none --filter network=host"), in("ps --filter network=blue --filter name=nginx -q"),
		"ps --state-dir /run/nowhere", "ps -f status=well", "ps --filter color=red", "ps --format yaml", in("ps --format {{.Nope}}"), "ps web")
	if strings.Contains(text, "\x1b") {
		t.Errorf("%q", text)
	}
	golden(t, "ps.txt", strings.ReplaceAll(text, dir, "DIR"))
}

// A record that cannot be read is a warning, and the others are shown.
func TestPsUnreadable(t *testing.T) {
	nstest.Host(t)
	dir := stateOf(t, nil, people()[0], attached("blue", "new", "eth0", "bridge", stranger{}))
	code, out, errs := berth(t, nil, "ps", "--state-dir", dir)
	if code != exitDone || !strings.Contains(out, "10.88.0.2") || !strings.Contains(errs, "warning: unreadable record") {
		t.Errorf("%d, %q, %q", code, out, errs)
	}
}

// stranger is a step of another version.
type stranger struct{}

func (stranger) Kind() string                                    { return "teleport" }
func (stranger) Add(context.Context, *attach.Adding) error       { return nil }
func (stranger) Del(context.Context, *attach.Attachment) error   { return nil }
func (stranger) Check(context.Context, *attach.Attachment) error { return nil }

// 1,000 attachments are listed before a person notices.
func TestPsThousand(t *testing.T) {
	nstest.Host(t)
	var all []*attach.Attachment
	for i := range 1000 {
		name := fmt.Sprintf("web-%d", i)
		all = append(all, withAddresses(attached("blue", name, "eth0", "bridge", &link.Bridge{Name: "br-blue", Gateway: true}, &link.Veth{Bridge: "br-blue"},
			&firewall.Rules{Backend: firewall.NFTables, Bridge: "br-blue"}, &names.Register{Bridge: "br-blue", Names: []string{name}}),
			fmt.Sprintf("10.88.%d.%d/16", i/250, i%250+2)))
	}
	dir := stateOf(t, nil, all...)
	var took []time.Duration
	for range 5 {
		start := time.Now()
		code, out, errs := berth(t, nil, "ps", "--state-dir", dir)
		took = append(took, time.Since(start))
		if code != exitDone || strings.Count(out, "\n") != 1001 {
			t.Fatalf("%d, %s", code, errs)
		}
	}
	if best := slices.Min(took); best > 2*time.Second {
		t.Errorf("%s, want less than 2 s: it is linear", best)
	} else {
		t.Logf("%s", best)
	}
}
