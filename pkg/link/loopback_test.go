package link

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/steptest"
)

// loOf is the line of `ip -br link` about lo in a namespace.
func loOf(t *testing.T, netns string) string {
	t.Helper()
	var out string
	nstest.In(t, netns, func() {
		var err error
		if out, err = nstest.Output("ip", "-br", "address", "show", "lo"); err != nil {
			t.Fatal(err)
		}
	})
	return strings.Join(strings.Fields(out), " ")
}

func TestLoopbackConforms(t *testing.T) {
	nstest.Host(t)
	a := &attach.Attachment{Key: attach.Key{Network: "n", Container: "c1", IfName: "eth0"}, Netns: nstest.Namespace(t)}
	adding := steptest.Conform(t, &Loopback{}, a, steptest.Shared, func() string { return loOf(t, a.Netns) })
	if got := loOf(t, a.Netns); got != "lo UNKNOWN 127.0.0.1/8 ::1/128" {
		t.Errorf("after Add and Del: %s", got)
	}
	var have []netip.Prefix
	for _, addr := range a.Addresses {
		have = append(have, addr.Prefix)
	}
	if want := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128")}; !slices.Equal(have, want) {
		t.Errorf("addresses %v, want %v", have, want)
	}
	want := attach.Interface{Name: "lo", MAC: "00:00:00:00:00:00", Sandbox: a.Netns}
	if len(adding.Interfaces) == 0 || adding.Interfaces[0] != want {
		t.Errorf("interfaces %+v, want %+v", adding.Interfaces, want)
	}
}

// A path that refers to the host: lo is read, never set.
func TestLoopbackOfTheHost(t *testing.T) {
	nstest.Host(t)
	a := &attach.Attachment{Netns: netns.OwnPath}
	l := &Loopback{}
	if err := errors.Join(l.Add(t.Context(), &attach.Adding{Attachment: a}), l.Check(t.Context(), a), l.Del(t.Context(), a)); err != nil {
		t.Error(err)
	}
	if got := loOf(t, netns.OwnPath); !strings.Contains(got, "127.0.0.1/8") {
		t.Errorf("lo of the host: %s", got)
	}
	if err := nstest.Run("ip", "link", "set", "lo", "down"); err != nil {
		t.Fatal(err)
	}
	if err := l.Add(t.Context(), &attach.Adding{Attachment: a}); err == nil {
		t.Error("a host whose lo is down is found in order")
	}
	if got := loOf(t, netns.OwnPath); !strings.HasPrefix(got, "lo DOWN") {
		t.Errorf("lo of the host was set: %s", got)
	}
}

func TestLoopbackCheckFinds(t *testing.T) {
	nstest.Host(t)
	for _, harm := range []string{"ip link set lo down", "ip address flush dev lo"} {
		a := &attach.Attachment{Netns: nstest.Namespace(t)}
		if err := (&Loopback{}).Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
			t.Fatal(err)
		}
		f := strings.Fields(harm)
		nstest.In(t, a.Netns, func() {
			if err := nstest.Run(f[0], f[1:]...); err != nil {
				t.Fatal(err)
			}
		})
		if (&Loopback{}).Check(t.Context(), a) == nil {
			t.Errorf("%s: Check sees nothing", harm)
		}
	}
}
