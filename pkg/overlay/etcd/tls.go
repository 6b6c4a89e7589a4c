package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// tls returns nil when the endpoints are plain.
func (o *Options) tls() (*tls.Config, error) {
	if o.CA == "" && o.Cert == "" {
		return nil, nil // https then goes by the system's CAs
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("read etcd's CA: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read etcd's CA: %s holds no certificate in PEM", o.CA)
		}
	}
	if o.Cert != "" {
		if _, err := tls.LoadX509KeyPair(o.Cert, o.Key); err != nil {
			return nil, fmt.Errorf("read the certificate for etcd: %w", err)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
			return &pair, err
		}
	}
	return config, nil
}
