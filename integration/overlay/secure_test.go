package overlay

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/pkg/overlay/etcd"
)

// TestSecureStore replaces all certificates of a store with TLS, its CA's and the hosts'
// as well, and turns its authentication on and off, under agents that go on. One of them
// has no user: it goes by what it knows, and follows again when none is needed.
func TestSecureStore(t *testing.T) {
	t.Parallel()
	files, err := cluster.NewAuthority(t.TempDir())
	must(t, err)
	password := filepath.Join(t.TempDir(), "password")
	must(t, os.WriteFile(password, []byte("secret"), 0o600))
	f := newFaults(t, 3, options{secure: files, user: []string{"--etcd-user", "berth", "--etcd-password-file", password}})
	member := f.store.Members[0]
	f.under("all certificates replaced", func() {
		other, err := cluster.NewAuthority(t.TempDir())
		must(t, err)
		must(t, errors.Join(other.Sign("client"), other.Sign("server", member.Addr4.AsSlice(), member.Addr6.AsSlice())))
		_ = member.Stop()
		for _, name := range []string{"ca.pem", "server.pem", "server.key", "client.pem", "client.key"} {
			data, err := os.ReadFile(other.File(name))
			must(t, err)
			must(t, os.WriteFile(files.File(name), data, 0o600))
		}
		must(t, member.Start())
	})

	last := f.Hosts[2]
	must(t, f.agents[last].Stop())
	f.agents[last], err = last.Agent(cluster.OnEtcd(f.store)...) // no user
	must(t, err)
	ctl := func(args ...string) {
		t.Helper()
		_, err := f.store.Ctl(args...)
		must(t, err)
	}
	ctl("role", "add", "berth")
	for _, prefix := range []string{etcd.DefaultPrefix, "/berth/v1-names/"} {
		ctl("role", "grant-permission", "berth", "--prefix=true", "readwrite", prefix)
	}
	for user, role := range map[string]string{"root": "root", "berth": "berth"} {
		ctl("user", "add", user+":secret")
		ctl("user", "grant-role", user, role)
	}
	f.out = last
	f.under("authentication turned on", func() { ctl("auth", "enable") })
	f.works("auth", last, f.places[0])
	if err := f.agents[last].Probe("readyz"); err == nil || !strings.Contains(err.Error(), "after1") {
		t.Errorf("readyz of a host that may not claim a block: %v", err)
	}
	f.out = nil
	f.under("authentication turned off", func() {
		ctl("--user", "root:secret", "auth", "disable")
		time.Sleep(time.Second)
	})
}
