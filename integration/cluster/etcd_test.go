package cluster

import (
	"fmt"
	"testing"
	"time"
)

// TestEtcd uses a store of one member through its faults.
func TestEtcd(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, Options{})
	start := time.Now()
	e, err := c.Etcd(1)
	must(t, err)
	t.Logf("healthy after %v", time.Since(start).Round(time.Millisecond))
	keys := map[string]string{}
	for i := range 250 {
		keys[fmt.Sprintf("/t/%03d", i)] = fmt.Sprint("value ", i)
	}
	must(t, e.Put(keys))
	must(t, e.Compact())
	has := func(want int) {
		t.Helper()
		got, err := e.Keys("/t/")
		must(t, err)
		if len(got) != want || got["/t/007"] != "value 7" {
			t.Errorf("%d keys, want %d; /t/007 is %q", len(got), want, got["/t/007"])
		}
	}
	has(250)
	if _, err := e.Ctl("lease", "grant", "60"); err != nil {
		t.Error(err)
	}
	if n, err := e.RevokeLeases(); n != 1 || err != nil {
		t.Errorf("%d leases revoked, %v", n, err)
	}
	must(t, e.Delete("/t/1"))
	has(150)
	// From a host, and not while it is stopped.
	m := e.Members[0]
	_, err = c.Hosts[0].Get(m.url() + "/health")
	must(t, err)
	e.Stop()
	if _, err := c.Hosts[0].Get(m.url() + "/health"); err == nil {
		t.Error("a stopped etcd answers")
	}
	must(t, e.Start())
	has(150)
	m.Kill()
	must(t, m.Start())
	has(150)
}

// TestEtcdThree loses one member of three, then two.
func TestEtcdThree(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 0, Options{})
	e, err := c.Etcd(3)
	must(t, err)
	if out, err := e.Ctl("member", "list"); err != nil {
		t.Error(out, err)
	}
	put := func() error { return e.Put(map[string]string{"k": "v"}) }
	must(t, put())
	e.Members[0].Kill()
	must(t, Until(5*time.Second, put)) // an election
	must(t, c.Cut(e.Members[1].Host))
	if put() == nil {
		t.Error("one member of three took a write")
	}
	must(t, c.Mend(e.Members[1].Host))
	e.Members[2].Pause()
	e.Members[2].Resume()
	must(t, e.Members[0].Start())
	must(t, e.Healthy())
	must(t, Until(5*time.Second, put))
}
