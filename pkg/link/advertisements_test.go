package link

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"github.com/berth-cni/berth/pkg/link/internal/linktest"
	"github.com/berth-cni/berth/pkg/link/ipvlan"
	"github.com/berth-cni/berth/pkg/link/macvlan"
	"github.com/berth-cni/berth/pkg/nstest"
	"golang.org/x/sys/unix"
)

// advertise sends a router advertisement (RFC 4861, section 4.2) for the prefix
// 2001:db8:666::/64, with a default route, by eth0 of a namespace.
func advertise(t *testing.T, netns string) {
	t.Helper()
	advert := []byte{134, 0, 0, 0, 64, 0, 1800 >> 8, 1800 & 0xff, 0, 0, 0, 0, 0, 0, 0, 0}
	advert = append(advert, 3, 4, 64, 0xc0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) // prefix, on link and autonomous
	advert = append(advert, net.ParseIP("2001:db8:666::")...)
	nstest.In(t, netns, func() {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255); err != nil {
			t.Fatal(err)
		}
		to := &unix.SockaddrInet6{Addr: [16]byte{0: 0xff, 1: 2, 15: 1}, ZoneId: uint32(eth0.Index)}
		if err := unix.Sendto(fd, advert, 0, to); err != nil {
			t.Fatal(err)
		}
	})
}

// advertised is what a container has of advertisements: addresses and a default route.
func advertised(t *testing.T, a *attach.Attachment) string {
	t.Helper()
	ns := filepath.Base(a.Netns)
	addresses, err := nstest.Output("ip", "-n", ns, "-6", "-o", "address", "show", "dev", "eth0", "dynamic")
	if err != nil {
		t.Fatal(err)
	}
	routes, err := nstest.Output("ip", "-n", ns, "-6", "route", "show", "proto", "ra")
	if err != nil {
		t.Fatal(err)
	}
	return addresses + routes
}

// TestAdvertisements: what one container advertises, another takes if it is to, whatever
// addresses it has, and not at all otherwise.
func TestAdvertisements(t *testing.T) {
	only := func(a *attach.Attachment, v6 bool) *attach.Attachment {
		a.Addresses = slices.DeleteFunc(a.Addresses, func(x attach.Address) bool { return x.Prefix.Addr().Is6() != v6 })
		a.Routes = slices.DeleteFunc(a.Routes, func(r attach.Route) bool { return r.Dst.Addr().Is6() != v6 })
		return a
	}
	kinds := map[string]func(acceptRA bool) attach.Step{
		"bridge": func(acceptRA bool) attach.Step { return &Veth{Bridge: "berth0", AcceptRA: acceptRA} },
		"macvlan": func(acceptRA bool) attach.Step {
			return &macvlan.Interface{Master: "up0", Mode: "bridge", AcceptRA: acceptRA}
		},
	}
	kinds["ipvlan"] = func(acceptRA bool) attach.Step {
		return &ipvlan.Interface{Master: "up0", Mode: "l2", Flag: "bridge", AcceptRA: acceptRA}
	}
	for kind, step := range kinds {
		t.Run(kind, func(t *testing.T) {
			if needs(t, step(false)); kind != "bridge" {
				linktest.LAN(t)
			} else {
				nstest.Host(t)
			}
			none := linktest.Attachment(t, "none", 6)
			none.Addresses, none.Routes = nil, nil
			takes := []*attach.Attachment{linktest.Attachment(t, "takes both", 2), only(linktest.Attachment(t, "takes IPv4", 3), false), only(linktest.Attachment(t, "takes IPv6", 4), true), none}
			refuses := []*attach.Attachment{linktest.Attachment(t, "sender", 10), linktest.Attachment(t, "both", 12),
				only(linktest.Attachment(t, "IPv4", 13), false), only(linktest.Attachment(t, "IPv6", 14), true)}
			if kind == "bridge" {
				if err := (&Bridge{Name: "berth0"}).Add(t.Context(), &attach.Adding{Attachment: refuses[0]}); err != nil {
					t.Fatal(err)
				}
			}
			for i, a := range append(slices.Clone(takes), refuses...) {
				a.MAC = iface.MAC(a)
				linktest.AddAll(t, a, step(i < len(takes)))
			}
			for _, a := range takes {
				eventually(t, "container "+a.Container+" took the advertisement", func() bool {
					advertise(t, refuses[0].Netns) // one that comes before the address is settled is lost
					return strings.Contains(advertised(t, a), "2001:db8:666:") && strings.Contains(advertised(t, a), "default")
				})
			}
			for _, a := range refuses {
				if got := advertised(t, a); got != "" {
					t.Errorf("container %s has of its neighbour's advertisement:\n%s", a.Container, got)
				}
			}
		})
	}
}

// eventually waits for what the kernel does in its own time.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 200 {
		if is() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("not yet: %s", what)
}

// TestAdvertisementsReadOnly: the container comes without the protection, and says so.
func TestAdvertisementsReadOnly(t *testing.T) {
	if err := unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount("/proc/sys", unix.MNT_DETACH) }()
	for _, readOnly := range []bool{false, true} {
		nstest.Host(t)
		a := linktest.Attachment(t, "c1", 2)
		a.Addresses, a.Routes = a.Addresses[:1], a.Routes[:1]
		if err := (&Bridge{Name: "berth0"}).Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
			t.Fatal(err)
		}
		if readOnly {
			if err := unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
		}
		var said []string
		adding := &attach.Adding{Attachment: a, Warned: func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }}
		if err := (&Veth{Bridge: "berth0"}).Add(t.Context(), adding); err != nil {
			t.Fatal(err)
		}
		if all := strings.Join(said, "\n"); readOnly != strings.Contains(all, "eth0/accept_ra to 0: read-only file system") || len(said) > 1 {
			t.Errorf("read-only %t: said %q", readOnly, said)
		}
	}
}
