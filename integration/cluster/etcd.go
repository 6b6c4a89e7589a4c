package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// Etcd is a store of one member or more, each a host of its own on the underlay,
// with its data in memory. The data outlives a member's process.
type Etcd struct {
	Members []*Member
	secure  *Authority // nil: plain HTTP, and everybody may come
}

// Member is one etcd. Its Process is the running one, or the last.
type Member struct {
	*Host
	*Process
	client *http.Client
	flags  []string
	secure bool
}

// etcdPatience is how long a store may take to come up: an election on a busy machine.
const etcdPatience = 15 * time.Second

// Etcd starts a store with so many members, and waits until all are healthy. They
// have the host numbers from [EtcdNumber] on.
func (c *Cluster) Etcd(members int) (*Etcd, error) { return c.etcd(members, nil) }

// SecureEtcd is [Cluster.Etcd] with TLS on both sides: the members have the authority's
// certificate "server", and take its clients. What goes by the gateway (Keys, Put, ...)
// does not work there.
func (c *Cluster) SecureEtcd(members int, a *Authority) (*Etcd, error) {
	var addresses []net.IP
	for i := range members {
		addresses = append(addresses, numbered(Underlay4, EtcdNumber+i).AsSlice(), numbered(Underlay6, EtcdNumber+i).AsSlice())
	}
	if err := errors.Join(a.Sign("server", addresses...), a.Sign("client")); err != nil {
		return nil, err
	}
	return c.etcd(members, a)
}

func (c *Cluster) etcd(members int, secure *Authority) (*Etcd, error) {
	for _, program := range []string{"etcd", "etcdctl"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("%w: Debian's etcd-server and etcd-client have it", err)
		}
	}
	e := &Etcd{secure: secure}
	var peers []string
	for i := range members {
		h, err := c.Other(fmt.Sprintf("etcd%d", i), EtcdNumber+i)
		if err != nil {
			return nil, err
		}
		e.Members = append(e.Members, &Member{Host: h, client: h.client(), secure: secure != nil})
		peers = append(peers, fmt.Sprintf("%s=http://%s:2380", h.Name, h.Addr4))
	}
	for _, m := range e.Members {
		m.flags = []string{"--name", m.Name, "--data-dir", "/run/etcd",
			"--listen-client-urls", m.url() + "," + m.url6(), "--advertise-client-urls", m.url(),
			"--listen-peer-urls", fmt.Sprintf("http://%s:2380", m.Addr4),
			"--initial-advertise-peer-urls", fmt.Sprintf("http://%s:2380", m.Addr4),
			"--initial-cluster", strings.Join(peers, ","),
			// A tenth of the defaults: these members are on one machine.
			"--heartbeat-interval", "50", "--election-timeout", "500"}
		if secure != nil {
			m.flags = append(m.flags, "--cert-file", secure.File("server.pem"), "--key-file", secure.File("server.key"),
				"--trusted-ca-file", secure.File("ca.pem"), "--client-cert-auth", "--bcrypt-cost", "4", "--listen-metrics-urls", m.health())
		}
		if err := m.start(); err != nil {
			return nil, err
		}
	}
	return e, e.Healthy()
}

func (m *Member) url() string { return fmt.Sprintf("%s://%s:2379", m.scheme(), m.Addr4) }

// url6 is the same member by IPv6.
func (m *Member) url6() string { return fmt.Sprintf("%s://[%s]:2379", m.scheme(), m.Addr6) }

func (m *Member) scheme() string {
	if m.secure {
		return "https"
	}
	return "http"
}

// health is where the member says how it is, without a certificate.
func (m *Member) health() string {
	if m.secure {
		return fmt.Sprintf("http://%s:2381", m.Addr4)
	}
	return m.url()
}

func (m *Member) start() (err error) {
	m.Process, err = m.Host.Start("etcd", m.flags...)
	return err
}

// Start starts a member that has ended, with the data it had, and waits until it is
// healthy: at most 15 s.
func (m *Member) Start() error {
	if err := m.start(); err != nil {
		return err
	}
	return m.Healthy()
}

// Healthy waits until the member takes part in a store with a leader: at most 15 s.
func (m *Member) Healthy() error {
	err := Until(etcdPatience, func() error {
		if !m.Running() {
			return fmt.Errorf("ended: %v", m.err)
		}
		resp, err := m.client.Get(m.health() + "/health")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var health struct{ Health string }
		if err := json.NewDecoder(resp.Body).Decode(&health); err != nil || health.Health != "true" {
			return errors.Join(fmt.Errorf("health %q", health.Health), err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("etcd %s: %w\n%s", m.Name, err, m.Tail())
	}
	return nil
}

// Healthy waits until every member is healthy.
func (e *Etcd) Healthy() error {
	for _, m := range e.Members {
		if err := m.Healthy(); err != nil {
			return err
		}
	}
	return nil
}

// Stop stops every member; Start starts them together, and waits until all are healthy.
func (e *Etcd) Stop() {
	for _, m := range e.Members {
		_ = m.Process.Stop() // etcd re-raises SIGTERM: always an error
	}
}

// Start: see [Etcd.Stop].
func (e *Etcd) Start() error {
	for _, m := range e.Members {
		if err := m.start(); err != nil {
			return err
		}
	}
	return e.Healthy()
}

const dataDir = "/run/etcd"

// Copy keeps a copy of what all members have, which are stopped, under a name.
func (e *Etcd) Copy(name string) error {
	return e.each("cp -a " + dataDir + " " + dataDir + "." + name)
}

// Replace gives all members, which are stopped, the data of a copy, again and again; or
// none, where the name is empty.
func (e *Etcd) Replace(name string) error {
	if err := e.each("rm -rf " + dataDir); err != nil || name == "" {
		return err
	}
	return e.each("cp -a " + dataDir + "." + name + " " + dataDir)
}

func (e *Etcd) each(command string) error {
	for _, m := range e.Members {
		if err := m.Script(command); err != nil {
			return err
		}
	}
	return nil
}

// Snapshot saves what a store of one member has with `etcdctl snapshot save`, under a
// name.
func (e *Etcd) Snapshot(name string) error {
	_, err := e.Ctl("snapshot", "save", dataDir+"."+name+".db")
	return err
}

// RestoreSnapshot gives a store of one member, which is stopped, the data of a snapshot.
func (e *Etcd) RestoreSnapshot(name string) error {
	m := e.Members[0]
	peer := fmt.Sprintf("http://%s:2380", m.Addr4)
	return m.Script(fmt.Sprintf(`rm -rf %[1]s
		etcdctl snapshot restore %[1]s.%[2]s.db --name %[3]s --data-dir %[1]s --initial-cluster %[3]s=%[4]s --initial-advertise-peer-urls %[4]s`,
		dataDir, name, m.Name, peer))
}

// WriteHidden has a store of one member, which is stopped, run where no host reaches it,
// and so many keys of somebody else's written to it.
func (e *Etcd) WriteHidden(keys int) error {
	m := e.Members[0]
	const hidden = "http://127.0.0.1:12379"
	p, err := m.Host.Start("etcd", append(slices.Clone(m.flags), "--listen-client-urls", hidden, "--advertise-client-urls", hidden)...)
	if err != nil {
		return err
	}
	err = Until(etcdPatience, func() error {
		_, err := m.Output("etcdctl", "--endpoints", hidden, "--command-timeout", "1s", "put", "hidden", "0")
		return err
	})
	for i := 0; err == nil && i < keys; i++ {
		_, err = m.Output("etcdctl", "--endpoints", hidden, "put", "hidden", fmt.Sprint(i))
	}
	_ = p.Stop()
	return err
}

// Endpoints are the clients' URLs, with commas.
func (e *Etcd) Endpoints() string {
	var urls []string
	for _, m := range e.Members {
		urls = append(urls, m.url())
	}
	return strings.Join(urls, ",")
}

// BothEndpoints are the clients' URLs by IPv4 and by IPv6, with commas.
func (e *Etcd) BothEndpoints() string {
	urls := e.Endpoints()
	for _, m := range e.Members {
		urls += "," + m.url6()
	}
	return urls
}

// Ctl runs etcdctl against all members, for at most 5 s.
func (e *Etcd) Ctl(args ...string) (string, error) {
	all := []string{"--endpoints", e.Endpoints(), "--command-timeout", "5s"}
	if e.secure != nil {
		all = append(all, "--cacert", e.secure.File("ca.pem"), "--cert", e.secure.File("client.pem"), "--key", e.secure.File("client.key"))
	}
	all = append(all, args...)
	return e.Members[0].Output("etcdctl", all...)
}
