package link

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/internal/linktest"
	"github.com/berth-cni/berth/pkg/link/ipvlan"
	"github.com/berth-cni/berth/pkg/link/macvlan"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestOutside: what a container's owner has done inside is no fault from the outside, and a
// reload leaves it; what is missing on the host is put back beside it.
func TestOutside(t *testing.T) {
	for name, step := range map[string]attach.Step{"veth": &Veth{Bridge: "berth0"}, "macvlan": &macvlan.Interface{Master: "up0", Mode: "bridge"},
		"ipvlan": &ipvlan.Interface{Master: "up0", Mode: "l2", Flag: "bridge"}} {
		for change, fault := range map[string]bool{ // whether a Check by the record sees it
			"ip -n NS route flush all":                        true,
			"ip -n NS addr flush dev eth0":                    true,
			"ip -n NS link set eth0 down":                     true,
			"ip -n NS link set eth0 address 02:00:00:00:00:9": name == "macvlan",
			"ip -n NS link set eth0 mtu 1300":                 false,
			"ip -n NS link set eth0 promisc on":               false,
			"ip -n NS link set eth0 down\nip -n NS link set eth0 name lan0\nip -n NS link set lan0 up": true,
		} {
			t.Run(name+" "+change, func(t *testing.T) {
				if linktest.LAN(t); name == "ipvlan" && strings.Contains(change, "address 02") {
					return // it has no MAC of its own
				}
				needs(t, step)
				a := &attach.Adding{Attachment: linktest.OnLAN(t, "c1", 2)}
				a.Routes = []attach.Route{DefaultRoute(a.Addresses[0].Gateway)}
				steps := []attach.Step{step}
				if name == "veth" {
					linktest.Run(t, "ip addr flush dev up0")
					steps = []attach.Step{&Bridge{Name: "berth0", Gateway: true}, step}
				}
				for _, s := range steps {
					if err := s.Add(t.Context(), a); err != nil {
						t.Fatal(err)
					}
				}
				ns := filepath.Base(a.Netns)
				linktest.Run(t, strings.ReplaceAll(change, "NS", ns))
				if err := step.Check(t.Context(), a.Attachment); (err != nil) != fault {
					t.Errorf("by the record: %v", err)
				}
				if err := Outside(step).Check(t.Context(), a.Attachment); err != nil {
					t.Errorf("from the outside: %v", err)
				}
				if name == "veth" {
					linktest.Run(t, "ip link set "+a.HostIfName()+" nomaster")
				}
				before := inNamespace(t, ns)
				a.Steps = []attach.Step{Outside(step)}
				if err := attach.Reload(context.WithoutCancel(t.Context()), a); err != nil {
					t.Fatal(err)
				}
				if err := attach.Check(t.Context(), a.Attachment); err != nil {
					t.Errorf("after the reload: %v", err)
				}
				if after := inNamespace(t, ns); after != before {
					t.Errorf("the container is\n%s\nit was\n%s", after, before)
				}
			})
		}
	}
}

// inNamespace is what a reload must not touch. The carrier follows the host's end.
func inNamespace(t *testing.T, ns string) string {
	t.Helper()
	var all strings.Builder
	for _, of := range []string{"link", "addr", "route", "-6 route"} {
		out, err := nstest.Output("ip", append([]string{"-n", ns, "-o"}, strings.Fields(of)...)...)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out) {
			if !strings.Contains(line, "fe80::") {
				all.WriteString(line)
			}
		}
	}
	text := all.String()
	for _, w := range []string{"NO-CARRIER,", ",LOWER_UP", ",M-DOWN", "state UP", "state DOWN", "state LOWERLAYERDOWN", " linkdown"} {
		text = strings.ReplaceAll(text, w, "")
	}
	return text
}
