package wireguard

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The words are those of https://www.wireguard.com/xplatform/.
func TestText(t *testing.T) {
	one, two, secret := Key{1}, Key{2}, Key{3}
	c := &change{private: &secret, port: 51820, peers: []peerChange{
		{key: one, remove: true},
		{key: two, preshared: &Key{}, endpoint: netip.MustParseAddrPort("[2001:db8::1]:51820"), keepalive: 25,
			add: []netip.Prefix{netip.MustParsePrefix("10.42.1.0/24")}, drop: []netip.Prefix{netip.MustParsePrefix("fd00:42::/64")}},
	}}
	const zeros = "00000000000000000000000000000000000000000000000000000000000000"
	want := "set=1\nprivate_key=03" + zeros + "\nlisten_port=51820\npublic_key=01" + zeros + "\nremove=true\npublic_key=02" + zeros +
		"\npreshared_key=00" + zeros + "\nendpoint=[2001:db8::1]:51820\npersistent_keepalive_interval=25\nallowed_ip=-fd00:42::/64\nallowed_ip=10.42.1.0/24\n\n"
	if got := c.text(); got != want {
		t.Errorf("%q, want\n%q", got, want)
	}
}

func TestParse(t *testing.T) {
	const zeros = "00000000000000000000000000000000000000000000000000000000000000"
	s, err := parse(strings.NewReader("private_key=03" + zeros + "\nlisten_port=51820\nfwmark=1\n" +
		"public_key=01" + zeros + "\npreshared_key=04" + zeros + "\nprotocol_version=1\nendpoint=192.0.2.1:7\nlast_handshake_time_sec=9\nallowed_ip=10.42.1.0/24\nallowed_ip=fd00::/64\n" +
		"public_key=02" + zeros + "\nlast_handshake_time_sec=0\npersistent_keepalive_interval=25\nerrno=0\n\n"))
	want := &state{private: Key{3}, port: 51820, peers: map[Key]peer{
		{1}: {preshared: Key{4}, endpoint: netip.MustParseAddrPort("192.0.2.1:7"), handshake: time.Unix(9, 0),
			allowed: []netip.Prefix{netip.MustParsePrefix("10.42.1.0/24"), netip.MustParsePrefix("fd00::/64")}},
		{2}: {keepalive: 25},
	}}
	if err != nil || !reflect.DeepEqual(s, want) {
		t.Errorf("%+v, %v; want %+v", s, err, want)
	}
	for _, bad := range []string{"", "errno=", "listen_port=x\nerrno=0\n\n", "public_key=01\nerrno=0\n\n", "public_key=01" + zeros + "\nendpoint=x\nerrno=0\n\n"} {
		if s, err := parse(strings.NewReader(strings.TrimSuffix(bad, "errno="))); err == nil {
			t.Errorf("%q: %+v", bad, s)
		}
	}
	if _, err := parse(strings.NewReader("errno=-98\n\n")); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("refused: %v", err)
	}
}

// TestLate has a process leave questions without an answer, as on a host that has too much
// to do: its device is given up after three, not after one.
func TestLate(t *testing.T) {
	const device = "late0"
	fatal(t, os.MkdirAll(socketDir, 0o700))
	l, err := net.Listen("unix", socketPath(device))
	fatal(t, err)
	defer l.Close()
	answers := make(chan bool, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			if _, err := c.Read(make([]byte, 64)); err == nil && <-answers { // else only who listens was asked
				_, _ = io.WriteString(c, "errno=0\n\n")
			}
		}
	}()
	tunnel := &Tunnel{}
	for i, answer := range []bool{false, false, true, false, false, false} {
		answers <- answer
		if works, want := tunnel.Works(device, tunKind), i < 5; works != want {
			t.Errorf("question %d: %v, want %v", i+1, works, want)
		}
	}
}
