package etcd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

// authority signs certificates.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.sign(t, "ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// sign writes NAME.pem and NAME.key.
func (a *authority) sign(t testing.TB, name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	c.SerialNumber, c.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	check(t, err)
	cert, err := x509.ParseCertificate(der)
	check(t, err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	check(t, err)
	check(t, os.WriteFile(a.file(name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	check(t, os.WriteFile(a.file(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), 0o600))
	return cert, key
}

// TestSecure: TLS on both sides, a user that may write under the prefix only, and a
// store that is away when it is opened, which forgets its log-ins when it restarts.
func TestSecure(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	ca.sign(t, "server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}})
	ca.sign(t, "client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	all := cluster(t, 1, "--cert-file", ca.file("server.pem"), "--key-file", ca.file("server.key"),
		"--trusted-ca-file", ca.file("ca.pem"), "--client-cert-auth", "--bcrypt-cost", "4")
	secure := func(o *Options) {
		o.CA, o.Cert, o.Key, o.User, o.Password = ca.file("ca.pem"), ca.file("client.pem"), ca.file("client.key"), "berth", "secret"
	}
	setAuth(t, all, secure)

	all[0].stop(t)
	early := overlaytest.Follow(t, open(t, all, secure), false)
	early.WaitUpdates(t, overlaytest.Patience, "to be told that it is away", func(u []overlay.Update) bool { return away(u) == 1 })
	all[0].start(t)
	early.WaitUpdates(t, overlaytest.Patience, "the first update", func(u []overlay.Update) bool { return u[len(u)-1].Full })

	s := open(t, all, secure)
	retry(t, func() error { _, err := s.State(limited(t)); return err }) // it was away a moment ago
	node := overlaytest.Node("a", 0)
	check(t, s.Register(limited(t), node, "boot", false, overlaytest.NotLost(t)))
	blue(t, s)
	check(t, s.Claim(limited(t), overlaytest.BlockOf("blue", "10.42.0.0/24", node)))
	all[0].kill(t)
	all[0].start(t)
	retry(t, func() error { return s.Claim(limited(t), overlaytest.BlockOf("blue", "10.42.1.0/24", node)) })
	early.Wait(t, "both blocks", func(s *overlay.State) bool { return len(s.Blocks) == 2 })
	early.WaitSame(t, s)

	for _, c := range []struct {
		what, want string
		change     func(*Options)
	}{
		{"no certificate", "", func(o *Options) { o.Cert, o.Key = "", "" }}, // the reason comes too late for gRPC
		{"a wrong password", "user or password is wrong", func(o *Options) { o.Password = "guess" }},
		{"no password", "the user may not do this there", func(o *Options) { o.User, o.Password = "", "" }},
		{"another's prefix", "the user may not do this there", func(o *Options) { o.Prefix = "/other/" }},
		{"another CA's trust", "unknown authority", func(o *Options) { o.CA = newAuthority(t).file("ca.pem") }},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			s := open(t, all, secure, func(o *Options) { o.RequestTimeout = 0 }, c.change)
			if _, err := s.State(limited(t)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			} else {
				t.Log(err)
			}
		})
	}
}

// setAuth makes the user berth, who may write under the prefix, and root, and turns
// authentication on.
func setAuth(t testing.TB, all []*member, secure func(*Options)) {
	t.Helper()
	o := Options{Endpoints: urls(all)}
	secure(&o)
	tls, err := o.tls()
	check(t, err)
	c, err := clientv3.New(clientv3.Config{Endpoints: o.Endpoints, TLS: tls, Logger: zap.NewNop()})
	check(t, err)
	defer c.Close()
	ctx := limited(t)
	for { // until it is up
		try, stop := context.WithTimeout(ctx, time.Second)
		_, err := c.Get(try, "x")
		stop()
		if err == nil {
			break
		}
		check(t, ctx.Err())
	}
	_, err = c.RoleAdd(ctx, "berth")
	check(t, err)
	_, err = c.RoleGrantPermission(ctx, "berth", DefaultPrefix, clientv3.GetPrefixRangeEnd(DefaultPrefix), clientv3.PermissionType(clientv3.PermReadWrite))
	check(t, err)
	for user, role := range map[string]string{"root": "root", "berth": "berth"} {
		_, err = c.UserAdd(ctx, user, "secret")
		check(t, err)
		_, err = c.UserGrantRole(ctx, user, role)
		check(t, err)
	}
	_, err = c.AuthEnable(ctx)
	check(t, err)
}
