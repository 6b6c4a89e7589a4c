package etcd

import (
	"go.etcd.io/etcd/api/v3/mvccpb"

	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

// nonsense is what nobody can use, by key; with a word of what is said about it.
var nonsense = map[string][2]string{
	"networks/blue":               {`{"name": "red", "id": "x", "subnets": ["10.0.0.0/8"], "nodePrefix": [24], "vni": 9, "port": 4789}`, `holds "red"`},
	"networks/green":              {`{`, "unexpected end"},
	"networks/noid":               {`{"name": "noid", "subnets": ["10.0.0.0/8"], "nodePrefix": [24], "vni": 9, "port": 4789}`, "id"},
	"networks/loop":               {`{"name": "loop", "id": "x", "subnets": ["127.0.0.0/8"], "nodePrefix": [24], "vni": 9, "port": 4789}`, "127.0.0.0/8"},
	"networks/../../etc/passwd":   {`{"name": "../../etc/passwd", "id": "x", "subnets": ["10.0.0.0/8"], "nodePrefix": [24], "vni": 9, "port": 4789}`, "name"},
	"vnis/x":                      {`blue`, "want a VNI"},
	"vnis/16777216":               {`blue`, "want a VNI"},
	"vnis/0077":                   {`blue`, "want a VNI"},
	"vnis/77":                     {`$(reboot)`, "want a letter"},
	"nodes/a":                     {`{"name": "b", "token": "t", "address": "192.0.2.1", "mtu": 1500}`, `holds "b"`},
	"nodes/c":                     {`{"name": "c", "token": "", "address": "127.0.0.1", "mtu": 1}`, "token"},
	"nodes/d":                     {`["list"]`, "cannot unmarshal"},
	"nodes/big":                   {strings.Repeat(" ", maxValue+1), "bytes"},
	"nodes/$(reboot)":             {`{"name": "$(reboot)", "token": "t", "address": "192.0.2.1", "mtu": 1500}`, "name"},
	"nodes/\x1b[2J":               {`{}`, "name"},
	"blocks/blue":                 {`{}`, "want a key such as"},
	"blocks/blue/10.42.1.1-24":    {`{}`, "end in 10.42.1.0-24"},
	"blocks/blue/10.42.1.0-24":    {`{"network": "blue", "prefix": "10.42.2.0/24", "node": "a", "token": "t"}`, "holds the block 10.42.2.0/24"},
	"blocks/red/10.42.1.0-24":     {`{"network": "blue", "prefix": "10.42.1.0/24", "node": "a", "token": "t"}`, `network "blue"`},
	"blocks/blue/10.42.3.0-24":    {`{"network": "blue", "prefix": "10.42.3.0/24", "node": "", "token": ""}`, "token"},
	"blocks/../nodes/10.0.0.0-24": {`{}`, "unexpected character"},
	"alive/a":                     {`{"node": "a", "instance": "", "address": "192.0.2.1"}`, "instance"},
	"alive/b":                     {`{"node": "c", "instance": "i", "address": "192.0.2.1"}`, `holds "c"`},
	"alive/":                      {``, "unexpected end"},
}

func TestDecodeNonsense(t *testing.T) {
	for key, c := range nonsense {
		var u overlay.Update
		err := decode(&u, key, holds(c[0]))
		if err == nil || !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%s: got %v, want an error with %q", key, err, c[1])
		}
		if !reflect.DeepEqual(u, overlay.Update{}) {
			t.Errorf("%s: used all the same: %+v", key, u)
		}
	}
}

func TestDecodePassesOver(t *testing.T) {
	var u overlay.Update
	for key, value := range map[string]string{"": "x", "names/web": "x", "generation": "7", "vnis/7": "blue"} {
		if err := decode(&u, key, holds(value)); err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
	value := `{"name": "a", "token": "t", "address": "192.0.2.1", "mtu": 1500, "later": {"x": 1}}`
	if err := decode(&u, "nodes/a", holds(value)); err != nil || len(u.Nodes) != 1 {
		t.Errorf("a field of a later version: %v", err)
	}
}

func TestKeys(t *testing.T) {
	s := &Store{o: Options{Prefix: "/p/"}}
	for want, k := range map[string]overlay.BlockKey{
		"/p/blocks/blue/10.42.3.0-24":    {Network: "blue", Prefix: netip.MustParsePrefix("10.42.3.0/24")},
		"/p/blocks/b-2/fd00:42:0:3::-64": {Network: "b-2", Prefix: netip.MustParsePrefix("fd00:42:0:3::/64")},
	} {
		if got := s.blockKey(k); got != want {
			t.Errorf("key of %v: %s, want %s", k, got, want)
		}
		if got, err := parseBlockKey(strings.TrimPrefix(want, "/p/blocks/")); err != nil || got != k {
			t.Errorf("%s parsed: %v, %v", want, got, err)
		}
	}
}

func TestPrintable(t *testing.T) {
	for key, want := range map[string]string{
		"/berth/v1/nodes/a":            "/berth/v1/nodes/a",
		"nodes/\x1b[2J":                `"nodes/\x1b[2J"`,
		"nodes/a\nb":                   `"nodes/a\nb"`,
		"nodes/\xff":                   `"nodes/\xff"`,
		strings.Repeat("x", maxText+1): strings.Repeat("x", maxText) + "...",
	} {
		if got := printable(key); got != want {
			t.Errorf("%q: got %q, want %q", key, got, want)
		}
	}
}

func TestPause(t *testing.T) {
	last := time.Duration(0)
	for failures := range 100 {
		d := pause(failures)
		if d > maxBackoff || d < minBackoff/2 || failures < 6 && d < last/2 {
			t.Errorf("after %d failures: %s", failures, d)
		}
		last = d
	}
}

func TestOptions(t *testing.T) {
	for want, o := range map[string]Options{
		"endpoints: want one":   {},
		`"10.0.0.1:2379"`:       {Endpoints: []string{"10.0.0.1:2379"}},
		"are mixed":             {Endpoints: []string{"http://a:1", "https://a:1"}},
		"want https":            {Endpoints: []string{"http://a:1"}, CA: "ca.pem"},
		"cert, key: want both":  {Endpoints: []string{"https://a:1"}, Cert: "c.pem"},
		"user, password":        {Endpoints: []string{"https://a:1"}, User: "u"},
		"ttl: 500ms":            {Endpoints: []string{"https://a:1"}, TTL: 500 * time.Millisecond},
		"read etcd's CA: open":  {Endpoints: []string{"https://a:1"}, CA: "/nowhere/ca.pem"},
		"no certificate in PEM": {Endpoints: []string{"https://a:1"}, CA: "/dev/null"},
		"read the certificate ": {Endpoints: []string{"https://a:1"}, Cert: "/dev/null", Key: "/dev/null"},
	} {
		s, err := Open(o)
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for key, c := range nonsense {
		f.Add(key, []byte(c[0]))
	}
	n := overlaytest.Node("a", 0)
	for key, v := range map[string]any{
		"nodes/a":                  n,
		"blocks/blue/10.42.1.0-24": overlaytest.BlockOf("blue", "10.42.1.0/24", n),
		"alive/a":                  overlay.Alive{Node: "a", Instance: "i", Address: n.Address},
	} {
		data, _ := json.Marshal(v)
		f.Add(key, data)
	}
	s := &Store{}
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		var u overlay.Update
		err := decode(&u, key, holds(string(value)))
		known := []string{}
		for _, n := range u.Networks {
			check(t, n.Validate())
			known = append(known, s.networkKey(n.Name))
		}
		for _, n := range u.Nodes {
			check(t, n.Validate())
			known = append(known, s.nodeKey(n.Name))
		}
		for _, b := range u.Blocks {
			check(t, b.Validate())
			known = append(known, s.blockKey(b.Key()))
		}
		for _, a := range u.Alive {
			check(t, a.Validate())
			known = append(known, s.aliveKey(a.Node))
		}
		if len(known) > 1 || len(known) == 1 && (err != nil || known[0] != key) {
			t.Errorf("key %q: decoded as %q, error %v", key, known, err)
		}
		if err != nil {
			if b := badKey(key, err); strings.ContainsAny(b.Error(), "\n\x1b") || len(b.Error()) > 3*maxText {
				t.Errorf("said of it: %q", b.Error())
			}
		}
		gone(&u, key)
		_ = fmt.Sprint(u)
	})
}

// holds is a key with a value.
func holds(value string) *mvccpb.KeyValue { return &mvccpb.KeyValue{Value: []byte(value)} }
