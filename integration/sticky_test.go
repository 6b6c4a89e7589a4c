package integration

import (
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// TestSticky: a container that comes back under its name, or as its pod, has its addresses
// again, while others come and go; two of one name have two.
func TestSticky(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"name", "pod"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			b.endAgent()
			b.does("network create --ipv6 --subnet 10.61.0.0/28 --sticky " + by + " web")
			if out := b.does("network ls --filter name=web --format {{.Options}}"); !strings.Contains(out, "sticky="+by) {
				t.Errorf("options %s", out)
			}
			n := b.file("web")
			add := func(id, space, name string) (*sandbox.Container, string, []sandbox.Option) {
				t.Helper()
				c := b.container(id)
				opts := []sandbox.Option{sandbox.Arg("IgnoreUnknown", "1"), sandbox.Arg("K8S_POD_NAMESPACE", space), sandbox.Arg("K8S_POD_NAME", name)}
				text, err := n.AddJSON(c, opts...)
				must(t, err)
				r, addr := parse(t, text)
				return c, addr + " " + first6(r), opts
			}
			leave := func(c *sandbox.Container, opts []sandbox.Option) {
				t.Helper()
				must(t, n.Del(c, opts...))
				must(t, c.Remove())
			}
			db, dbs, opts := add("db1", "shop", "db-0")
			leave(db, opts)
			for _, id := range []string{"o1", "o2", "o3", "o4", "o5", "o6", "o7", "o8", "o9", "o10", "o11", "o12", "o13", "o14"} {
				other, addr, opts := add(id, "shop", "other-"+id)
				if id != "o14" && addr == dbs { // 13 addresses: only then is there no other
					t.Errorf("%s has the address of db-0, %s", id, dbs)
				}
				leave(other, opts)
				if id == "o5" {
					again, addr, opts := add("db2", "shop", "db-0")
					if addr != dbs {
						t.Errorf("db-0 came back with %s, want %s", addr, dbs)
					}
					second, addr2, opts2 := add("db3", "shop", "db-0")
					if addr2 == addr {
						t.Errorf("two have %s", addr)
					}
					leave(second, opts2)
					leave(again, opts) // the last one of the name
					elsewhere, addr3, opts3 := add("db4", "test", "db-0")
					if same := addr3 == dbs; same != (by == "name") {
						t.Errorf("db-0 of another namespace has %s, of this one %s", addr3, dbs)
					}
					leave(elsewhere, opts3)
				}
			}
		})
	}
}
