package etcd

import (
	"crypto/x509"
	"net"
	"os"
	"testing"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

// TestRenewed replaces all certificates by those of another CA, the member's by a restart,
// under a host that goes on: also while its key is not yet that of its certificate.
func TestRenewed(t *testing.T) {
	t.Parallel()
	files := newAuthority(t)
	renew := func(a *authority) {
		t.Helper()
		a.sign(t, "server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}})
		a.sign(t, "client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	}
	put := func(from *authority, names ...string) {
		t.Helper()
		for _, name := range names {
			data, err := os.ReadFile(from.file(name))
			check(t, err)
			check(t, os.WriteFile(files.file(name), data, 0o600))
		}
	}
	renew(files)
	all := cluster(t, 1, "--cert-file", files.file("server.pem"), "--key-file", files.file("server.key"),
		"--trusted-ca-file", files.file("ca.pem"), "--client-cert-auth")
	s := open(t, all, func(o *Options) {
		o.CA, o.Cert, o.Key = files.file("ca.pem"), files.file("client.pem"), files.file("client.key")
	})
	f := overlaytest.Follow(t, s, false)
	node := overlaytest.Node("a", 0)
	retry(t, func() error { return s.Register(limited(t), node, "boot", false, overlaytest.NotLost(t)) })
	blue(t, s)

	other := newAuthority(t)
	renew(other)
	all[0].stop(t)
	put(other, "ca.pem", "server.pem", "server.key", "client.pem") // the client's key is late
	all[0].start(t)
	f.WaitUpdates(t, overlaytest.Patience, "to be told that it is away", func(u []overlay.Update) bool { return away(u) >= 1 })
	put(other, "client.key")
	retry(t, func() error { return s.Claim(limited(t), overlaytest.BlockOf("blue", "10.42.0.0/24", node)) })
	f.WaitUpdates(t, overlaytest.Patience, "it to be back", func(u []overlay.Update) bool { return u[len(u)-1].Err == nil })
	f.WaitSame(t, s)

	// Another name than the one that was asked for is not taken.
	other.sign(t, "server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	put(other, "server.pem", "server.key")
	all[0].kill(t)
	all[0].start(t)
	f.WaitUpdates(t, overlaytest.Patience, "it to be away", func(u []overlay.Update) bool { return u[len(u)-1].Err != nil })
	if err := s.Claim(limited(t), overlaytest.BlockOf("blue", "10.42.1.0/24", node)); err == nil {
		t.Error("a member with a certificate for another address is taken")
	} else {
		t.Log(err)
	}
}
