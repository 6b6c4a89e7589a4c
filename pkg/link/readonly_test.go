package link

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/link/internal/linktest"
	"github.com/berth-cni/berth/pkg/link/ipvlan"
	"github.com/berth-cni/berth/pkg/link/macvlan"
	"github.com/berth-cni/berth/pkg/nstest"
	"golang.org/x/sys/unix"
)

// TestReadOnlySettings: where /proc/sys is read-only, all that works without it is done,
// and what protects nobody then is said; once, since the next ADD has nothing to change.
func TestReadOnlySettings(t *testing.T) {
	const routerless = "net.ipv6.conf.all.forwarding=0"
	for name, c := range map[string]struct {
		before []string // of the host, while it can be set
		step   attach.Step
		want   string // what is warned of; empty: nothing
		err    string // empty: none
	}{
		"a bridge":                       {nil, &Bridge{Name: "berth0", Gateway: true}, "", ""},
		"a bridge, not forwarding":       {[]string{"sysctl -qw " + routerless}, &Bridge{Name: "berth0"}, "berth0/accept_ra cannot be set to 0", ""},
		"a bridge that takes any router": {[]string{"sysctl -qw net.ipv6.conf.default.accept_ra=2"}, &Bridge{Name: "berth0", Gateway: true}, "berth0/accept_ra cannot be set to 0", ""},
		"a bridge that was there":        {[]string{"ip link add berth0 type bridge", "ip link set berth0 up"}, &Bridge{Name: "berth0", Gateway: true}, "", ""},
		"IPv6 is off":                    {[]string{"sysctl -qw net.ipv6.conf.default.disable_ipv6=1"}, &Bridge{Name: "berth0", Gateway: true}, "", "set /proc/sys/net/ipv6/conf/berth0/disable_ipv6 to 0"},
		"forwarding":                     {nil, &Forwarding{Gateway: true}, "", ""},
		"not on":                         {[]string{"sysctl -qw net.ipv4.ip_forward=0"}, &Forwarding{Gateway: true}, "", "set /proc/sys/net/ipv4/ip_forward to 1"},
		"not on, IPv6":                   {[]string{"sysctl -qw " + routerless}, &Forwarding{Gateway: true}, "", "set /proc/sys/net/ipv6/conf/all/forwarding to 1"},
		"localnet":                       {nil, &Localnet{Interface: "up0"}, "", ""},
		"a host shim":                    {nil, &macvlan.HostShim{Master: "up0"}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			nstest.Host(t)
			shell(t, "sysctl -qw net.ipv4.ip_forward=1", "sysctl -qw net.ipv6.conf.all.forwarding=1",
				"ip link add up0 type veth peer name up1", "ip link set up0 up", "ip link set up1 up")
			shell(t, c.before...)
			nstest.ReadOnlySettings(t)
			var said []string
			a := &attach.Adding{Attachment: linktest.Attachment(t, "c1", 2), Warned: func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }}
			a.Ports = []attach.Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}
			err := c.step.Add(t.Context(), a)
			if c.err != "" {
				if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(said, "; "); !strings.Contains(got, c.want) || c.want == "" && got != "" {
				t.Errorf("said %q, want %q", got, c.want)
			}
			if err := c.step.Check(t.Context(), a.Attachment); err != nil {
				t.Errorf("after Add, Check says: %v", err)
			}
			said = nil
			if _, shared := c.step.(attach.Shared); shared {
				if err := c.step.Add(t.Context(), a); err != nil || len(said) > 0 {
					t.Errorf("the next Add: %v, said %q", err, said)
				}
			}
		})
	}
}

// TestReadOnlyInside: a container gets its interface, and 127.0.0.1 its way to the port.
func TestReadOnlyInside(t *testing.T) {
	for name, steps := range map[string][]attach.Step{
		"veth":    {&Bridge{Name: "berth0", Gateway: true}, &Veth{Bridge: "berth0"}},
		"VLAN":    {&Bridge{Name: "berth0", Gateway: true, VLANs: true, GatewayVLAN: 7}, &Veth{Bridge: "berth0", VLAN: 7}},
		"macvlan": {&macvlan.Interface{Master: "up0", Mode: "bridge"}},
		"ipvlan":  {&ipvlan.Interface{Master: "up0", Mode: "l2", Flag: "bridge"}},
	} {
		t.Run(name, func(t *testing.T) {
			nstest.Host(t)
			needs(t, steps[0])
			shell(t, "ip link add up0 type veth peer name up1", "ip link set up0 up", "ip link set up1 up",
				"sysctl -qw net.ipv6.conf.all.forwarding=1")
			nstest.ReadOnlySettings(t)
			a := &attach.Adding{Attachment: linktest.Attachment(t, "c1", 2)}
			a.Ports = []attach.Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}
			for _, s := range steps {
				err := s.Add(t.Context(), a)
				if name == "VLAN" && errors.Is(err, unix.EOPNOTSUPP) {
					t.Skip("this kernel has no BRIDGE_VLAN_FILTERING")
				}
				if err != nil {
					t.Fatalf("%s: %v", s.Kind(), err)
				}
				if err := s.Check(t.Context(), a.Attachment); err != nil {
					t.Errorf("%s: after Add, Check says: %v", s.Kind(), err)
				}
			}
			if b, ok := steps[0].(*Bridge); ok {
				on := b.Name
				if b.GatewayVLAN != 0 {
					on = b.vlanInterface()
				}
				if got, err := proc.Read(proc.Net("ipv4", "conf", on, "route_localnet")); got != "1" {
					t.Errorf("route_localnet of %s is %q, %v", on, got, err)
				}
			}
		})
	}
}
