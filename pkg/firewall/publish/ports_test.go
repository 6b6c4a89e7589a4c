package publish

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
)

// publish adds a container of a network with ports and nothing else.
func publishPorts(t *testing.T, s *attach.Store, network, container string, ports ...attach.Port) (*attach.Attachment, string, error) {
	t.Helper()
	var said []string
	a := &attach.Adding{Attachment: &attach.Attachment{Key: attach.Key{Network: network, Container: container, IfName: "eth0"},
		Steps: []attach.Step{&Ports{Ports: ports}}},
		Warned: func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }}
	err := s.Add(t.Context(), a)
	return a.Attachment, strings.Join(said, "; "), err
}

// TestPortsClaim: a port has one container, and that publishes it once.
func TestPortsClaim(t *testing.T) {
	nstest.Host(t)
	s := attach.New(t.TempDir(), func(string) attach.Step { return nil })
	tcp := func(port uint16, ip string) attach.Port {
		addr, _ := netip.ParseAddr(ip)
		return attach.Port{HostIP: addr, HostPort: port, ContainerPort: 80, Protocol: "tcp"}
	}
	for _, c := range []struct {
		network, container string
		port               attach.Port
		want, said         string
	}{
		{"a", "c1", tcp(80, ""), "[port 80/tcp]", ""},
		{"a", "c2", tcp(80, ""), "port 80/tcp is held by container c1 (network a, eth0)", ""},
		{"b", "c1", tcp(80, ""), "[]", "port 0.0.0.0:80/tcp is published to this container on network a already; port [::]:80/tcp is"},
		{"a", "c3", tcp(81, "0.0.0.0"), "[port 0.0.0.0:81/tcp]", ""},
		{"b", "c3", tcp(81, ""), "[port [::]:81/tcp]", "port 0.0.0.0:81/tcp is published"}, // the other family is free
		{"b", "c4", tcp(81, "127.0.0.1"), "port 127.0.0.1:81/tcp is held by container c3", ""},
	} {
		a, said, err := publishPorts(t, s, c.network, c.container, c.port)
		got := fmt.Sprint(a.Ports)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) || !strings.Contains(said, c.said) || c.said == "" && said != "" {
			t.Errorf("%s of %s, %s: %s, said %q; want %s, %q", c.container, c.network, c.port, got, said, c.want, c.said)
		}
		var held *attach.HeldError
		if err != nil && !errors.As(err, &held) {
			t.Errorf("%v is no HeldError", err)
		}
	}
}

// TestPortsTaken: a port that a process listens on is not taken away from it, and the
// claim is given back.
func TestPortsTaken(t *testing.T) {
	nstest.Host(t)
	s := attach.New(t.TempDir(), func(string) attach.Step { return nil })
	if err := nstest.Run("ip", "address", "add", "192.0.2.1/32", "dev", "lo"); err != nil {
		t.Fatal(err)
	}
	process := listen(t, "tcp4", "192.0.2.1:80")
	port := attach.Port{HostIP: netip.MustParseAddr("192.0.2.1"), HostPort: 80, ContainerPort: 80, Protocol: "tcp"}
	var taken *TakenError
	if _, _, err := publishPorts(t, s, "a", "c1", port); !errors.As(err, &taken) || taken.Port != port || !strings.Contains(taken.Holder, "pid") {
		t.Errorf("%v", err)
	}
	if _, err := s.Get(t.Context(), attach.Key{Network: "a", Container: "c1", IfName: "eth0"}); !errors.Is(err, attach.ErrNotFound) {
		t.Errorf("the record: %v", err)
	}
	if err := process.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := publishPorts(t, s, "a", "c2", port); err != nil {
		t.Errorf("after the process has gone: %v", err)
	}
	port.HostIP = netip.MustParseAddr("192.0.2.9")
	if _, _, err := publishPorts(t, s, "a", "c3", port); !errors.Is(err, ErrNotLocal) {
		t.Errorf("an address of another host: %v", err)
	}
}

// TestPortsOfGateway: a port is published on the gateway of the container's own network,
// which the ADD is about to make, unless a process waits for it.
func TestPortsOfGateway(t *testing.T) {
	nstest.Host(t)
	wild := listen(t, "tcp", ":81")
	defer wild.Close()
	a := &attach.Adding{Attachment: &attach.Attachment{Addresses: []attach.Address{
		{Prefix: netip.MustParsePrefix("10.1.0.2/24"), Gateway: netip.MustParseAddr("10.1.0.1")},
		{Prefix: netip.MustParsePrefix("fd00:1::2/64"), Gateway: netip.MustParseAddr("fd00:1::1")}}}}
	for _, c := range []struct {
		ip       string
		port     uint16
		protocol string
		gateways bool
		want     string
	}{
		{"10.1.0.1", 80, "tcp", true, ""}, {"fd00:1::1", 80, "tcp", true, ""}, {"10.1.0.1", 80, "udp", true, ""},
		{"10.1.0.1", 80, "tcp", false, "is not an address of this host"}, // a router beside the bridge
		{"10.1.0.2", 80, "tcp", true, "is not an address of this host"}, {"fd00:1::3", 80, "tcp", true, "is not an address of this host"},
		{"10.1.0.1", 81, "tcp", true, "listens on it"}, {"fd00:1::1", 81, "tcp", true, "listens on it"},
	} {
		a.Ports = []attach.Port{{HostIP: netip.MustParseAddr(c.ip), HostPort: c.port, ContainerPort: 80, Protocol: c.protocol}}
		err := (&Ports{Gateways: c.gateways}).Add(t.Context(), a)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, gateways %v: %v, want %q", a.Ports[0], c.gateways, err, c.want)
		}
	}
}
