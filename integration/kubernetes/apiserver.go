// Package kubernetes gives tests a real Kubernetes: an API server with an etcd of its own
// ([StartAPIServer]), built from source through the Go module proxy ([Build]) in the nested
// modules programs and coredns. The version is that of their go.mod.
package kubernetes

import (
	"cmp"
	"context"
	"encoding/csv"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
)

// Host is where the API server runs: a [cluster.Host], or [cluster.Here].
type Host interface {
	Start(name string, args ...string) (*cluster.Process, error)
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// User is one who comes with a token.
type User struct {
	Token, Name string
	Groups      []string
}

// Options are those of an API server; none has to be given.
type Options struct {
	Address netip.Addr // where it listens; 127.0.0.1
	Port    uint16     // TCP; 6443. etcd has the two after it, on 127.0.0.1
	Users   []User     // beside "admin" of system:masters
	// Services are the prefixes of Services' addresses, with a comma between families.
	Services string
	Names    []netip.Addr // more addresses that its certificate is for
	Flags    []string     // more of kube-apiserver's: they win
}

// APIServer is a kube-apiserver with RBAC and the Node authorizer, and the etcd behind it,
// whose data is in memory. There is no controller: nobody makes service accounts, finishes
// namespaces, or collects what has lost its owner. Its own processes are the running ones,
// or the last.
type APIServer struct {
	URL     string // https://ADDRESS:PORT
	CA      string // file of the authority's certificate
	Token   string // of "admin"
	Process *cluster.Process
	Etcd    *cluster.Process

	dir       string
	host      Host
	http      *http.Client
	path      string
	flags     []string
	etcd      []string
	authority *cluster.Authority
}

// patience is how long the API server may take until it is ready: 3 s of CPU, on a machine
// that has others to do.
const patience = 2 * time.Minute

// serviceRange has the addresses of Services where nothing else is given, and issuer the name in the tokens of service
// accounts.
const (
	serviceRange = "10.96.0.0/16"
	issuer       = "https://kubernetes.default.svc.cluster.local"
)

// StartAPIServer starts an API server, and waits until it is ready. [APIServer.Close] ends
// it. The program is what [Build] built.
func StartAPIServer(h Host, o Options) (s *APIServer, err error) {
	s = &APIServer{host: h, Token: "admin-token"}
	if s.path, err = Program("kube-apiserver"); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "berth-apiserver"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Close()
			s, err = nil, fmt.Errorf("start API server: %w", err)
		}
	}()
	address := o.Address
	if !address.IsValid() {
		address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	port := int(cmp.Or(o.Port, 6443))
	s.URL = "https://" + netip.AddrPortFrom(address, uint16(port)).String()
	if err := s.sign(append(o.Names, address)...); err != nil {
		return s, err
	}
	if err := s.users(o.Users); err != nil {
		return s, err
	}
	if s.http, err = s.client(); err != nil {
		return s, err
	}
	store := fmt.Sprintf("http://127.0.0.1:%d", port+1)
	peer := fmt.Sprintf("http://127.0.0.1:%d", port+2)
	s.etcd = []string{"--data-dir", fmt.Sprintf("/run/berth-apiserver-%d", port), "--unsafe-no-fsync", "--log-level", "error",
		"--listen-client-urls", store, "--advertise-client-urls", store, "--listen-peer-urls", peer,
		"--initial-advertise-peer-urls", peer, "--initial-cluster", "default=" + peer}
	s.flags = append(s.arguments(address, port, store), "--service-cluster-ip-range="+cmp.Or(o.Services, serviceRange))
	s.flags = append(s.flags, o.Flags...)
	if s.Etcd, err = h.Start("etcd", s.etcd...); err != nil {
		return s, fmt.Errorf("%w: Debian's etcd-server has it", err)
	}
	return s, s.Start()
}

func (s *APIServer) arguments(address netip.Addr, port int, store string) []string {
	key := s.AccountKey()
	flags := []string{
		"--etcd-servers=" + store, "--bind-address=" + address.String(), fmt.Sprintf("--secure-port=%d", port),
		"--tls-cert-file=" + s.authority.File("server.pem"), "--tls-private-key-file=" + s.authority.File("server.key"),
		"--client-ca-file=" + s.CA, "--token-auth-file=" + s.file("tokens.csv"), "--authorization-mode=Node,RBAC",
		"--service-account-key-file=" + key, "--service-account-signing-key-file=" + key, "--service-account-issuer=" + issuer,
		"--allow-privileged=true", "--profiling=false",
	}
	if address.IsLoopback() { // which it refuses to tell others
		flags = append(flags, "--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none")
	}
	return flags
}

// AccountKey is the file of the key of service accounts' tokens.
func (s *APIServer) AccountKey() string { return s.authority.File("accounts.key") }

func (s *APIServer) file(name string) string { return filepath.Join(s.dir, name) }

// sign makes the certificates, and the key of service accounts' tokens.
func (s *APIServer) sign(addresses ...netip.Addr) (err error) {
	if s.authority, err = cluster.NewAuthority(s.dir); err != nil {
		return err
	}
	s.CA = s.authority.File("ca.pem")
	var all []net.IP
	for _, a := range addresses {
		all = append(all, a.AsSlice())
	}
	if err := s.authority.Sign("server", all...); err != nil {
		return err
	}
	return s.authority.Sign("accounts")
}

// users writes the file of tokens: token, name, UID, groups.
func (s *APIServer) users(more []User) error {
	var text strings.Builder
	w := csv.NewWriter(&text)
	for _, u := range append([]User{{s.Token, "admin", []string{"system:masters"}}}, more...) {
		if err := w.Write([]string{u.Token, u.Name, u.Name, strings.Join(u.Groups, ",")}); err != nil {
			return err
		}
	}
	w.Flush()
	return os.WriteFile(s.file("tokens.csv"), []byte(text.String()), 0o600)
}

// Start starts an API server that has ended, with the data it had, and waits until it is
// ready.
func (s *APIServer) Start() (err error) {
	if s.Process, err = s.host.Start(s.path, s.flags...); err != nil {
		return err
	}
	err = cluster.Until(patience, func() error {
		if !s.Process.Running() || !s.Etcd.Running() {
			return fmt.Errorf("it or its etcd has ended")
		}
		_, err := s.Call(http.MethodGet, "/readyz", nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", s.URL, err, s.Process.Tail())
	}
	return nil
}

// Kill ends the API server at once, and leaves its etcd: see [APIServer.Start].
func (s *APIServer) Kill() { s.Process.Kill() }

// Close ends the API server and its etcd, and takes its files away.
func (s *APIServer) Close() {
	for _, p := range []*cluster.Process{s.Process, s.Etcd} {
		if p != nil {
			p.Kill()
		}
	}
	_ = os.RemoveAll(s.dir)
}
