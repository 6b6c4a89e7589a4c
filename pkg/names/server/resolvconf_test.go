package server

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func addrs(all ...string) []netip.Addr {
	var list []netip.Addr
	for _, a := range all {
		list = append(list, netip.MustParseAddr(a))
	}
	return list
}

func TestHostServers(t *testing.T) {
	for _, c := range []struct {
		name, file, resolved string
		want, behind         []netip.Addr
	}{
		{"plain", "# one\nnameserver 192.0.2.1\nnameserver\t2001:db8::1 # two\n;nameserver 1.1.1.1\nnameserver 192.0.2.1\noptions ndots:2\n", "",
			addrs("192.0.2.1", "2001:db8::1"), nil},
		{"zone", "nameserver fe80::1%eth0\n", "", addrs("fe80::1%eth0"), nil},                                                                   // aardvark-dns #535
		{"rubbish", "nameserver\nnameserver dns.example\nnameserver 300.1.1.1\nnameservers 192.0.2.1\n\x00\xff\n", "", addrs("127.0.0.1"), nil}, // resolv.conf(5)
		{"no line", "search example\n", "nameserver 192.0.2.1\n", addrs("127.0.0.1"), nil},
		{"no file", "", "", addrs("127.0.0.1"), nil},
		{"stub", "nameserver 127.0.0.53\n", "nameserver 192.0.2.1\nnameserver 192.0.2.2\n", addrs("127.0.0.53"), addrs("192.0.2.1", "192.0.2.2")},
		{"stub and another", "nameserver 127.0.0.53\nnameserver 192.0.2.9\n", "nameserver 192.0.2.1\nnameserver 192.0.2.9\n", addrs("127.0.0.53", "192.0.2.9"), addrs("192.0.2.1")},
		{"only a stub", "nameserver 127.0.0.53\n", "", addrs("127.0.0.53"), nil},
		{"stub of itself", "nameserver 127.0.0.53\n", "nameserver 127.0.0.53\n", addrs("127.0.0.53"), nil},
		{"a server of the host's own", "nameserver 127.0.0.1\n", "nameserver 192.0.2.1\n", addrs("127.0.0.1"), nil},
	} {
		dir := t.TempDir()
		file, resolved := filepath.Join(dir, "a"), filepath.Join(dir, "b")
		for path, text := range map[string]string{file: c.file, resolved: c.resolved} {
			if err := os.WriteFile(path, []byte(text), 0o600); text != "" && err != nil {
				t.Fatal(err)
			}
		}
		got, behind, err := hostServers(file, resolved)
		if err != nil || !slices.Equal(got, c.want) || !slices.Equal(behind, c.behind) {
			t.Errorf("%s: got %v, %v, %v, want %v, %v", c.name, got, behind, err, c.want, c.behind)
		}
	}
	if _, _, err := hostServers(t.TempDir(), ""); err == nil {
		t.Error("no error of a folder")
	}
}

func TestLimiter(t *testing.T) {
	var l limiter
	now := time.Unix(1000, 0)
	one, two := client{"br0", addrs("10.0.0.1")[0]}, client{"br0", addrs("10.0.0.2")[0]}
	take := func(c client, most int) (n int) {
		for n < most && l.take(c, now) == taken {
			n++
		}
		return n
	}
	if n := take(one, 10_000); n != clientPending {
		t.Errorf("one client has %d under way", n)
	}
	if n := take(two, 10); n != 10 {
		t.Errorf("another one is kept out after %d", n)
	}
	l.give(one)
	if n := take(one, 10); n != 1 {
		t.Errorf("%d were taken for one that ended", n)
	}
	for i := range 10 {
		take(client{"br0", netip.AddrFrom4([4]byte{10, 0, 1, byte(i)})}, 10_000)
	}
	if l.pending != allPending {
		t.Errorf("%d are under way in all", l.pending)
	}
	// The rate: as many as the burst, then as time goes by.
	l = limiter{}
	took := func() (n int) {
		for n < 10_000 && l.take(one, now) == taken {
			l.give(one)
			n++
		}
		return n
	}
	if n := took(); n != clientBurst {
		t.Errorf("a burst of %d", n)
	}
	told := 1 // by the last one of took
	for l.take(one, now) == failing {
		told++
	}
	if told != failureBurst {
		t.Errorf("a client was told of %d failures", told)
	}
	if n := took(); n != 0 {
		t.Errorf("%d without time going by", n)
	}
	now = now.Add(100 * time.Millisecond)
	if n := took(); n != clientRate/10 {
		t.Errorf("%d in a tenth of a second", n)
	}
	if l.forget(now); len(l.clients) != 1 {
		t.Error("a busy client was forgotten")
	}
	if l.forget(now.Add(time.Minute)); len(l.clients) != 0 {
		t.Error("a quiet client was not forgotten")
	}
}
