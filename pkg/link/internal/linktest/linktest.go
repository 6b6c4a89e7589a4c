// Package linktest is what the tests of interfaces share: attachments, a host on a network
// with another, and what both have.
package linktest

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/nstest"
)

// Attachment is one of a container in a new namespace, with addresses of both
// families.
func Attachment(t *testing.T, container string, n int) *attach.Attachment {
	t.Helper()
	a := &attach.Attachment{
		Key:   attach.Key{Network: "web", Container: container, IfName: "eth0"},
		Netns: nstest.Namespace(t),
		Addresses: []attach.Address{
			{Prefix: netip.MustParsePrefix(fmt.Sprintf("10.88.0.%d/16", n)), Gateway: netip.MustParseAddr("10.88.0.1")},
			{Prefix: netip.MustParsePrefix(fmt.Sprintf("fd00:88::%x/64", n)), Gateway: netip.MustParseAddr("fd00:88::1")},
		},
	}
	for _, addr := range a.Addresses {
		a.Routes = append(a.Routes, attach.Route{Dst: netip.PrefixFrom(unspecified(addr.Gateway), 0), Gateway: addr.Gateway})
	}
	a.MAC = iface.MAC(a)
	return a
}

func unspecified(like netip.Addr) netip.Addr {
	if like.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// State is what the host and the attachment's container have, as a person would
// ask for it, without what changes by itself.
func State(t *testing.T, a *attach.Attachment) func() string {
	return func() string {
		var s strings.Builder
		ns := a.Netns[strings.LastIndex(a.Netns, "/")+1:]
		for _, cmd := range []string{
			"ip -br link", "ip -br -4 address", "ip -4 route", "ip -6 route show scope global",
			"ip netns exec " + ns + " ip -br link", "ip netns exec " + ns + " ip -o -4 address",
			"ip netns exec " + ns + " ip -4 route",
		} {
			f := strings.Fields(cmd)
			out, err := nstest.Output(f[0], f[1:]...)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&s, cmd, "\n", settled(out))
		}
		return s.String()
	}
}

// settled drops what follows a carrier by itself.
func settled(out string) string {
	var lines []string
	for _, line := range strings.Split(out, "\n") {
		if strings.HasPrefix(line, "fe80::") {
			continue
		}
		for _, word := range []string{"NO-CARRIER,", "M-DOWN", ",LOWER_UP", " linkdown", " DOWN ", " UP ", " UNKNOWN "} {
			line = strings.ReplaceAll(line, word, map[bool]string{true: " "}[strings.HasPrefix(word, " ")])
		}
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}

// Ping sends one packet from a namespace and waits a second for the answer.
func Ping(t *testing.T, from, to string) error {
	t.Helper()
	var err error
	nstest.In(t, from, func() { err = nstest.Run("ping", "-c1", "-W1", to) })
	return err
}

// Run runs commands, one a line.
func Run(t *testing.T, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		if f := strings.Fields(line); len(f) > 0 {
			if err := nstest.Run(f[0], f[1:]...); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Wait is a moment in a loop that looks for what the kernel does in its own time.
func Wait() { time.Sleep(50 * time.Millisecond) }

// LAN gives the test a host whose up0 is cabled to another host, .2, and returns
// that one's namespace.
func LAN(t *testing.T) string {
	t.Helper()
	nstest.Host(t)
	other := nstest.Namespace(t)
	Run(t, strings.ReplaceAll(`ip link add up0 type veth peer name up0 netns OTHER
		ip addr add 10.88.0.1/16 dev up0
		ip addr add fd00:88::1/64 dev up0 nodad
		ip link set up0 up
		ip -n OTHER addr add 10.88.255.2/16 dev up0
		ip -n OTHER addr add fd00:88::ff02/64 dev up0 nodad
		ip -n OTHER link set up0 up`, "OTHER", filepath.Base(other)))
	for _, ns := range []string{other, netns.OwnPath} {
		c, err := iface.DialIn(ns)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AwaitUp("up0"); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	return other
}

// OnLAN is an attachment with its namespace's cookie, as the plugin has it.
func OnLAN(t *testing.T, container string, n int) *attach.Attachment {
	t.Helper()
	a := Attachment(t, container, n)
	ns, err := netns.Open(a.Netns)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if a.Cookie, err = ns.Cookie(); err != nil {
		t.Fatal(err)
	}
	return a
}

// AddAll adds steps, of which the test deletes none.
func AddAll(t *testing.T, a *attach.Attachment, steps ...attach.Step) {
	t.Helper()
	for _, s := range steps {
		if err := s.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
			t.Fatal(err)
		}
	}
}

// Exists tells whether the host has an interface of that name.
func Exists(t *testing.T, name string) bool {
	t.Helper()
	c, err := iface.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.LinkByName(name)
	if err != nil && !iface.NotExist(err) {
		t.Fatal(err)
	}
	return err == nil
}
