package link

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/internal/linktest"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/steptest"
)

// routedAttachment is one on a network without a bridge.
func routedAttachment(t *testing.T, container string, n int, defaultRoute bool) *attach.Attachment {
	t.Helper()
	a := linktest.Attachment(t, container, n)
	a.Routes = nil
	(&Gateway{Gateway: true, Routed: true, DefaultRoute: defaultRoute}).complete(a)
	return a
}

// routedTwo attaches two containers to one network.
func routedTwo(t *testing.T, defaultRoute bool) (a, b *attach.Attachment) {
	t.Helper()
	nstest.Host(t)
	a, b = routedAttachment(t, "c1", 2, defaultRoute), routedAttachment(t, "c2", 3, defaultRoute)
	for _, x := range []*attach.Attachment{a, b} {
		linktest.AddAll(t, x, &Forwarding{Gateway: true}, &Routed{Group: attach.Group("web")})
	}
	return a, b
}

func TestRoutedConforms(t *testing.T) {
	for _, r := range []Routed{{}, {MTU: 1400}, {DAD: true}} {
		r.Group = attach.Group("web")
		t.Run(fmt.Sprintf("%+v", r), func(t *testing.T) {
			nstest.Host(t)
			a := routedAttachment(t, "c1", 2, true)
			steptest.Conform(t, &r, a, steptest.Refused, linktest.State(t, a))
		})
	}
}

// TestRoutedReachAtOnce: when Add returns, neighbours, the host and the gateway are reached by
// both families, and the host reaches the container, also one without a default route.
func TestRoutedReachAtOnce(t *testing.T) {
	for _, defaultRoute := range []bool{true, false} {
		t.Run(fmt.Sprintf("default route %t", defaultRoute), func(t *testing.T) {
			a, b := routedTwo(t, defaultRoute)
			for _, to := range []string{"10.88.0.3", "fd00:88::3", "10.88.0.1", a.Addresses[1].Gateway.String() + "%eth0"} {
				if err := linktest.Ping(t, a.Netns, to); err != nil {
					t.Error(err)
				}
			}
			for _, to := range []string{"10.88.0.2", "fd00:88::2"} {
				if err := nstest.Run("ping", "-c1", "-W1", to); err != nil {
					t.Error(err)
				}
			}
			if err := (&Routed{}).Del(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			if linktest.Ping(t, a.Netns, "10.88.0.3") == nil {
				t.Error("a container that has gone answers")
			}
		})
	}
}

// TestRoutedGatewayAnswers ARP and neighbor discovery: whatever is in the container need not
// know the MAC of the host's end.
func TestRoutedGatewayAnswers(t *testing.T) {
	a, _ := routedTwo(t, true)
	nstest.In(t, a.Netns, func() {
		linktest.Run(t, "ip neigh flush all")
		if err := nstest.Run("ping", "-c1", "-W1", "fd00:88::3"); err != nil {
			t.Error(err)
		}
		if err := nstest.Run("ping", "-c1", "-W1", "10.88.0.3"); err != nil {
			t.Error(err)
		}
		out, err := nstest.Output("ip", "neigh")
		if err != nil || strings.Contains(out, "10.88.0.3") || !strings.Contains(out, "10.88.0.1 dev eth0 lladdr fe:") {
			t.Errorf("neighbours %q, %v", out, err)
		}
	})
}

// TestRoutedRepair puts back what is the host's, under a container that keeps its interface.
func TestRoutedRepair(t *testing.T) {
	a, _ := routedTwo(t, true)
	r, veth := &Routed{Group: attach.Group("web")}, a.HostIfName()
	for _, harm := range []string{
		"ip link set " + veth + " down", "ip link set " + veth + " group 0", "ip address flush dev " + veth,
		"ip route flush dev " + veth, "ip -6 route del fd00:88::2", "ip route replace 10.88.0.2 dev lo",
		"sysctl -qw net.ipv4.conf." + veth + ".forwarding=0", "sysctl -qw net.ipv6.conf." + veth + ".disable_ipv6=1",
	} {
		linktest.Run(t, harm)
		if r.Check(t.Context(), a) == nil {
			t.Errorf("%s: Check sees nothing", harm)
		}
		if err := r.Repair(t.Context(), &attach.Adding{Attachment: a}); err != nil {
			t.Errorf("%s: %v", harm, err)
		}
		if err := r.Check(t.Context(), a); err != nil {
			t.Errorf("%s: after Repair: %v", harm, err)
		}
		for _, to := range []string{"10.88.0.3", "fd00:88::3"} {
			if err := linktest.Ping(t, a.Netns, to); err != nil {
				t.Errorf("%s: after Repair: %v", harm, err)
			}
		}
	}
}

// TestGroup: no network has the group of the interfaces that nobody has put into one.
func TestGroup(t *testing.T) {
	if a, b := attach.Group("web"), attach.Group("db"); a == b || a>>30 != 1 || b>>30 != 1 {
		t.Errorf("%#x, %#x", a, b)
	}
}
