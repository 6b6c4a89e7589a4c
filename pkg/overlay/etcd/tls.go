package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"sync"

	"google.golang.org/grpc/credentials"
)

// tls returns nil when the endpoints are plain.
func (o *Options) tls() (*tls.Config, error) {
	if o.CA == "" && o.Cert == "" {
		return nil, nil // https then goes by the system's CAs
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		roots, err := o.roots()
		if err != nil {
			return nil, fmt.Errorf("read etcd's CA: %w", err)
		}
		config.RootCAs = roots
	}
	if o.Cert != "" {
		own := &renewed[*tls.Certificate]{read: o.pair}
		if _, err := own.get(); err != nil {
			return nil, fmt.Errorf("read the certificate for etcd: %w", err)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own.get() }
	}
	return config, nil
}

// handshakes are gRPC's credentials that read those who signed the members' certificates
// anew for each connection, so that they are renewed in place.
type handshakes struct {
	credentials.TransportCredentials
	config *tls.Config
	roots  *renewed[*x509.CertPool]
}

// handshakes returns nil where no file says whom to trust.
func (o *Options) handshakes(config *tls.Config) credentials.TransportCredentials {
	if o.CA == "" {
		return nil
	}
	return &handshakes{credentials.NewTLS(config), config, &renewed[*x509.CertPool]{read: o.roots}}
}

// ClientHandshake implements [credentials.TransportCredentials].
func (h *handshakes) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	roots, err := h.roots.get()
	if err != nil {
		return nil, nil, err
	}
	config := h.config.Clone()
	config.RootCAs = roots
	return credentials.NewTLS(config).ClientHandshake(ctx, authority, conn)
}

// Clone implements [credentials.TransportCredentials].
func (h *handshakes) Clone() credentials.TransportCredentials {
	return &handshakes{h.TransportCredentials.Clone(), h.config, h.roots}
}

func (o *Options) roots() (*x509.CertPool, error) {
	pem, err := os.ReadFile(o.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", o.CA)
	}
	return pool, nil
}

func (o *Options) pair() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
	return &pair, err
}

// renewed is what is in files, or was when they could be read last: a certificate may be
// there while its key is not yet.
type renewed[T any] struct {
	read func() (T, error)
	mu   sync.Mutex
	has  bool
	last T
}

func (r *renewed[T]) get() (T, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, err := r.read()
	if err == nil {
		r.last, r.has = now, true
	}
	if r.has {
		return r.last, nil
	}
	return now, err
}
