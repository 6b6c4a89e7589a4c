package server

import (
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/names"
	"github.com/miekg/dns"
)

// TestFind: the host is told who has a name or an address, on whichever network.
func TestFind(t *testing.T) {
	dir := t.TempDir()
	l := newLab(t, Config{StateDir: dir})
	l.Directory().PutRemote("b", entry("back.end", "far", "eth0", "", "far my.app", "10.2.7.1/24"))
	for word, want := range map[string]string{
		"web": "10.2.0.11 10.1.0.11 fd01::11", "web.simon_network": "10.1.0.11 fd01::11", "WEB.Simon_Network.Berth.": "10.1.0.11 fd01::11", "web.berth": "10.2.0.11 10.1.0.11 fd01::11",
		"web.back.end": "10.2.0.11", "far": "10.2.7.1", "my.app": "10.2.7.1", "my.app.back.end.berth": "10.2.7.1", "0123456789ab": "10.1.0.11 fd01::11",
		"10.1.0.12": "10.1.0.12", "fd01::11": "10.1.0.11 fd01::11", "nobody": "", "db.back.end": "", "10.1.0.99": "", "": "", ".": "",
	} {
		found, err := names.Find(t.Context(), dir, word)
		var got []string
		for _, e := range found {
			for _, a := range e.Addresses {
				got = append(got, a.String())
			}
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: got %v, want %s, %v", word, got, want, err)
		}
	}
}

// TestHostNames: a container finds its host by the names that it has with others.
func TestHostNames(t *testing.T) {
	u := newResolver(t, honest)
	a := newAsking(t, u)
	hosts := []string{"host.docker.internal", "host.containers.internal", "Host.Berth.Internal"}
	for _, name := range hosts {
		a.expect(t, name, dns.TypeA, "NXDOMAIN") // without a gateway
	}
	e := entry("net", "me", "eth0", a.br, "me", "10.6.0.2/24")
	e.Gateways = addrs("10.6.0.1")
	put(t, a.Server, e)
	for _, name := range hosts {
		a.expect(t, name, dns.TypeA, "NOERROR 10.6.0.1")
		a.expect(t, name, dns.TypeAAAA, "NOERROR")
	}
	put(t, a.Server, entry("net", "you", "eth0", a.br, "host.docker.internal", "10.6.0.9/24")) // of a person who wants that
	a.expect(t, "host.docker.internal", dns.TypeA, "NOERROR 10.6.0.9")
	if got := u.heard(); got != "" {
		t.Errorf("the upstream heard %q", got)
	}
}
