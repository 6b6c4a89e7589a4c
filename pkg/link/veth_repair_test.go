package link

import (
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/internal/linktest"
	"github.com/berth-cni/berth/pkg/nstest"
)

// A container whose bridge somebody deleted keeps its interface, with what somebody
// else put there, when the bridge comes back.
func TestVethIsRepaired(t *testing.T) {
	for _, damage := range []string{"ip link del berth0", "ip link set NAME nomaster", "ip link set NAME down"} {
		t.Run(damage, func(t *testing.T) {
			nstest.Host(t)
			a := &attach.Adding{Attachment: linktest.Attachment(t, "c1", 2)}
			a.Steps = []attach.Step{&Bridge{Name: "berth0", Gateway: true}, &Veth{Bridge: "berth0", Hairpin: true}}
			for _, s := range a.Steps {
				if err := s.Add(t.Context(), a); err != nil {
					t.Fatal(err)
				}
			}
			setting := func() string {
				t.Helper()
				out, err := nstest.Output("nsenter", "--net="+a.Netns, "cat", "/proc/sys/net/ipv4/neigh/eth0/base_reachable_time_ms")
				if err != nil {
					t.Fatal(err)
				}
				return out
			}
			if err := nstest.Run("nsenter", "--net="+a.Netns, "sysctl", "-qw", "net.ipv4.neigh.eth0.base_reachable_time_ms=12345"); err != nil {
				t.Fatal(err)
			}
			before := setting()
			shell(t, strings.Replace(damage, "NAME", a.HostIfName(), 1))
			if err := attach.Check(t.Context(), a.Attachment); err == nil {
				t.Fatal("Check sees nothing")
			}
			if err := attach.Reload(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			if err := attach.Check(t.Context(), a.Attachment); err != nil {
				t.Error(err)
			}
			if after := setting(); after != before {
				t.Errorf("the container's interface was made anew: its setting was %s, and is %s", before, after)
			}
			if err := linktest.Ping(t, a.Netns, "10.88.0.1"); err != nil {
				t.Error(err)
			}
			out, err := nstest.Output("bridge", "-d", "link", "show", "dev", a.HostIfName())
			if err != nil || !strings.Contains(out, "hairpin on") {
				t.Errorf("the port has lost its options: %s (%v)", out, err)
			}
		})
	}
}
