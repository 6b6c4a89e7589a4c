package etcd

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

const namesPrefix = "/berth/v1-names/"

// badNames is nonsense, by key.
var badNames = map[string]string{
	"blue/a":                               `{"names":["x"],"addresses":["10.42.0.1"]}`,
	"blue/a/c":                             `{"names":["x"],"addresses":["10.42.0.1"]}`,
	"blue/a/c:":                            `{"names":["x"],"addresses":["10.42.0.1"]}`,
	"blue/a/c:eth0/x":                      `{"names":["x"],"addresses":["10.42.0.1"]}`,
	"blue/a/c:a b":                         `{"names":["x"],"addresses":["10.42.0.1"]}`,
	"blue/a/\x1b[31m:eth0":                 `{"names":["x"],"addresses":["10.42.0.1"]}`,
	"blue//c:eth0":                         `{"names":["x"],"addresses":["10.42.0.1"]}`,
	"blue/a/not-json:eth0":                 `{`,
	"blue/a/null:eth0":                     `null`,
	"blue/a/no-names:eth0":                 `{"addresses":["10.42.0.1"]}`,
	"blue/a/no-addresses:eth0":             `{"names":["x"]}`,
	"blue/a/empty-label:eth0":              `{"names":["x..y"],"addresses":["10.42.0.1"]}`,
	"blue/a/upper-case:eth0":               `{"names":["X"],"addresses":["10.42.0.1"]}`,
	"blue/a/twice:eth0":                    `{"names":["x","x"],"addresses":["10.42.0.1"]}`,
	"blue/a/terminal:eth0":                 `{"names":["\u001b[31m"],"addresses":["10.42.0.1"]}`,
	"blue/a/mapped:eth0":                   `{"names":["x"],"addresses":["::ffff:10.42.0.1"]}`,
	"blue/a/zone:eth0":                     `{"names":["x"],"addresses":["fe80::1%eth0"]}`,
	"blue/a/empty-address:eth0":            `{"names":["x"],"addresses":[""]}`,
	"blue/a/large:eth0":                    `{"names":["` + strings.Repeat("x", maxValue) + `"]}`,
	"blue/a/" + longID + "too-long" + ":x": `{"names":["x"],"addresses":["10.42.0.1"]}`,
}

var longID = strings.Repeat("0", 128)

// TestForeignNames: nonsense is named, used by nobody, and told to be gone when it is.
func TestForeignNames(t *testing.T) {
	t.Parallel()
	all := cluster(t, 1)
	c, s := raw(t, all...), open(t, all)
	check(t, s.Register(limited(t), overlaytest.Node("a", 0), "boot", false, overlaytest.NotLost(t)))
	good := overlaytest.Called("blue", "a", 1)
	check(t, s.PublishNames(limited(t), []overlay.Name{good}, nil))
	lease, err := c.Grant(limited(t), 3600)
	check(t, err)
	early := overlaytest.Listen(t, open(t, all), "blue")
	for key, value := range badNames {
		_, err := c.Put(limited(t), namesPrefix+key, value, clientv3.WithLease(lease.ID))
		check(t, err)
	}
	_, err = c.Put(limited(t), namesPrefix+"blue/a/lasting:eth0", badNames["blue/a"])
	check(t, err)
	late := overlaytest.Listen(t, open(t, all), "blue")
	for _, l := range []*overlaytest.Listener{early, late} {
		l.Wait(t, "all keys that are bad", func(names map[overlay.NameKey]overlay.Name, bad map[string]error) bool {
			for key, err := range bad {
				if strings.ContainsAny(key+err.Error(), "\x1b\n") {
					t.Errorf("not for a terminal: %q: %q", key, err)
				}
			}
			return len(bad) == len(badNames)+1 && len(names) == 1
		})
	}
	_, err = c.Put(limited(t), s.nameKey(good.NameKey), "{", clientv3.WithLease(lease.ID))
	check(t, err)
	early.Wait(t, "the good one bad", func(names map[overlay.NameKey]overlay.Name, _ map[string]error) bool { return len(names) == 0 })
	check(t, s.PublishNames(limited(t), []overlay.Name{good}, nil))
	_, err = c.Revoke(limited(t), lease.ID)
	check(t, err)
	_, err = c.Delete(limited(t), namesPrefix+"blue/a/lasting:eth0")
	check(t, err)
	for _, l := range []*overlaytest.Listener{early, late} {
		l.WaitNames(t, 1)
	}
}

// TestNamesGrant: the lease goes and the names with it; under the next one they can be
// published again.
func TestNamesGrant(t *testing.T) {
	t.Parallel()
	all := cluster(t, 1)
	h := newHost(t, all, 0)
	l := overlaytest.Listen(t, open(t, all), "blue")
	names := []overlay.Name{overlaytest.Called("blue", h.node.Name, 1), overlaytest.Called("blue", h.node.Name, 2)}
	check(t, h.PublishNames(limited(t), names, nil))
	l.WaitNames(t, 2)
	c := raw(t, all...)
	got, err := c.Leases(limited(t))
	check(t, err)
	for _, lease := range got.Leases {
		_, err := c.Revoke(limited(t), lease.ID)
		check(t, err)
	}
	l.WaitNames(t, 0)
	retry(t, func() error { return h.PublishNames(limited(t), names, nil) })
	l.WaitNames(t, 2)
	time.Sleep(testTTL * 3 / 2)
	l.WaitNames(t, 2)
	h.kept(t)
}

// TestNamesMissed: the store goes, and comes back without the changes in between.
func TestNamesMissed(t *testing.T) {
	t.Parallel()
	all := cluster(t, 1)
	h := newHost(t, all, 0)
	l := overlaytest.Listen(t, open(t, all), "blue")
	check(t, h.PublishNames(limited(t), []overlay.Name{overlaytest.Called("blue", h.node.Name, 1)}, nil))
	l.WaitNames(t, 1)
	all[0].stop(t)
	elsewhere := all[0].elsewhere(t)
	c := raw(t, elsewhere)
	_, err := c.Delete(limited(t), namesPrefix, clientv3.WithPrefix())
	check(t, err)
	elsewhere.compact(t)
	elsewhere.stop(t)
	all[0].start(t)
	l.WaitNames(t, 0)
	if !slices.ContainsFunc(l.Updates()[1:], func(u overlay.Update) bool { return u.Full }) {
		t.Error("no full update after changes were missed")
	}
	retry(t, func() error {
		return h.PublishNames(limited(t), []overlay.Name{overlaytest.Called("blue", h.node.Name, 2)}, nil)
	})
	l.WaitNames(t, 1)
}

func FuzzName(f *testing.F) {
	f.Add("a/c:eth0", []byte(`{"names":["web","all"],"addresses":["10.42.3.2","fd00:42::2"]}`))
	for key, value := range badNames {
		f.Add(strings.TrimPrefix(key, "blue/"), []byte(value))
	}
	s := &Store{o: Options{Prefix: DefaultPrefix}}
	f.Fuzz(func(t *testing.T, rest string, value []byte) {
		n, err := decodeName("blue", rest, &mvccpb.KeyValue{Value: value, Lease: 1})
		if err != nil {
			return
		}
		if key := s.nameKey(n.NameKey); key != namesPrefix+"blue/"+rest {
			t.Errorf("key %q is written as %q", rest, key)
		}
		data, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeName("blue", rest, &mvccpb.KeyValue{Value: data, Lease: 1})
		if err != nil || !again.Same(&n) {
			t.Errorf("%s is read as %v, %v", data, again, err)
		}
	})
}

// BenchmarkNames reads all names of a network, as a host does whose first container
// there starts.
func BenchmarkNames(b *testing.B) {
	const hosts, each = 100, 100
	all := cluster(b, 1)
	for h := range hosts {
		n := overlaytest.Node(fmt.Sprint("host", h), h%100)
		s := open(b, all, func(o *Options) { o.TTL = time.Hour })
		check(b, s.Register(limited(b), n, "boot", false, func(error) {}))
		var names []overlay.Name
		for i := range each {
			name := overlaytest.Called("blue", n.Name, h*each+i)
			name.Container = fmt.Sprintf("%064x", h*each+i)
			names = append(names, name)
		}
		check(b, s.PublishNames(limited(b), names, nil))
	}
	s := open(b, all)
	bytes := 0
	of := scope{prefix: s.namesOf("blue"), decode: func(u *overlay.Update, rest string, kv *mvccpb.KeyValue) error {
		bytes += len(kv.Key) + len(kv.Value)
		n, err := decodeName("blue", rest, kv)
		u.Names = append(u.Names, n)
		return err
	}}
	spent := metric(b, all[0], "process_cpu_seconds_total")
	for b.Loop() {
		u, _, _, err := s.readAll(limited(b), of)
		if err != nil || len(u.Names) != hosts*each {
			b.Fatal(len(u.Names), err)
		}
	}
	b.ReportMetric(float64(bytes)/float64(b.N), "read-B/op")
	b.ReportMetric((metric(b, all[0], "process_cpu_seconds_total")-spent)*1e3/float64(b.N), "etcd-ms/op")
	b.ReportMetric(metric(b, all[0], "etcd_mvcc_db_total_size_in_bytes"), "db-B")
	b.ReportMetric(metric(b, all[0], "process_resident_memory_bytes"), "etcd-rss-B")
}
