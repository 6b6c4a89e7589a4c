package attach

import (
	"errors"
	"net/netip"
	"testing"
)

func port(ip, protocol string, n uint16) Port {
	p := Port{HostPort: n, ContainerPort: 8080, Protocol: protocol}
	if ip != "" {
		p.HostIP = netip.MustParseAddr(ip)
	}
	return p
}

func TestClaimPort(t *testing.T) {
	for _, c := range []struct {
		name         string
		first, other Port
		held         string // empty: both can be had
	}{
		{"the same", port("", "tcp", 80), port("", "tcp", 80), "port 80/tcp is held by container a (network net, eth0)"},
		{"another number", port("", "tcp", 80), port("", "tcp", 81), ""},
		{"a number with the same low byte", port("", "tcp", 80), port("", "tcp", 256+80), ""},
		{"another protocol", port("", "tcp", 80), port("", "udp", 80), ""},
		{"one address under all", port("", "tcp", 80), port("192.0.2.1", "tcp", 80), "port 192.0.2.1:80/tcp is held by container a (network net, eth0)"},
		{"all over one address", port("192.0.2.1", "tcp", 80), port("", "tcp", 80), "port 80/tcp is held by container a (network net, eth0)"},
		{"all over one IPv6 address", port("2001:db8::1", "tcp", 80), port("", "tcp", 80), "port 80/tcp is held by container a (network net, eth0)"},
		{"two addresses", port("192.0.2.1", "tcp", 80), port("192.0.2.2", "tcp", 80), ""},
		{"0.0.0.0 and one of IPv4", port("0.0.0.0", "tcp", 80), port("192.0.2.1", "tcp", 80), "port 192.0.2.1:80/tcp is held by container a (network net, eth0)"},
		{"0.0.0.0 and one of IPv6", port("0.0.0.0", "tcp", 80), port("2001:db8::1", "tcp", 80), ""},
		{"0.0.0.0 and ::", port("0.0.0.0", "tcp", 80), port("::", "tcp", 80), ""},
		{":: and one of IPv6", port("::", "tcp", 80), port("2001:db8::1", "tcp", 80), "port [2001:db8::1]:80/tcp is held by container a (network net, eth0)"},
		{"one of IPv6 and ::", port("2001:db8::1", "tcp", 80), port("::", "tcp", 80), "port [::]:80/tcp is held by container a (network net, eth0)"},
		{"0.0.0.0 and all", port("0.0.0.0", "tcp", 80), port("", "tcp", 80), "port 80/tcp is held by container a (network net, eth0)"},
		{"addresses of which one begins as the other", port("1.2.3.4", "tcp", 80), port("102:304::", "tcp", 80), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := New(stateDir(t), decodeFile)
			a, b := testKey("a"), testKey("b")
			update(t, s, func(tx *Tx) error { return tx.ClaimPort(c.first, a) })
			err := s.Update(t.Context(), func(tx *Tx) error { return tx.ClaimPort(c.other, b) })
			var held *HeldError
			if errors.As(err, &held) != (c.held != "") || held != nil && (held.Error() != c.held || held.Holder != a) {
				t.Errorf("got %v, want %q", err, c.held)
			}
			// A stranger's release changes nothing; the holder's makes room.
			update(t, s, func(tx *Tx) error { return tx.releasePort(c.first, testKey("stranger")) })
			if held != nil {
				if err := s.Update(t.Context(), func(tx *Tx) error { return tx.ClaimPort(c.other, b) }); err == nil {
					t.Error("released by a stranger")
				}
			}
			update(t, s, func(tx *Tx) error { return tx.releasePort(c.first, a) })
			update(t, s, func(tx *Tx) error { return tx.ClaimPort(c.other, b) })
			update(t, s, func(tx *Tx) error { return tx.releasePort(c.other, b) })
			same(t, dump(t, s), map[string]string{})
		})
	}
}
