package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
)

const network = "net"

// store is a real store, in memory where the machine has a tmpfs for it.
func store(t testing.TB) *attach.Store {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "ipam")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return attach.New(dir, func(string) attach.Step { return &Lease{} })
}

func key(container string) attach.Key {
	return attach.Key{Network: network, Container: container, IfName: "eth0"}
}

// add attaches a container as a main plugin does: lease and record in one
// transaction.
func add(s *attach.Store, c *Config, container string, requested ...netip.Addr) ([]attach.Address, error) {
	a := &attach.Attachment{Key: key(container), Steps: []attach.Step{&Lease{Conf: c, Wanted: requested}}}
	err := s.Add(context.Background(), &attach.Adding{Attachment: a})
	return a.Addresses, err
}

func del(t testing.TB, s *attach.Store, container string) {
	t.Helper()
	if err := s.Del(context.Background(), key(container)); err != nil {
		t.Fatal(err)
	}
}

// fill adds containers c0, c1, ... and returns what each got, without the lengths.
func fill(t testing.TB, s *attach.Store, c *Config, n int) (got []string) {
	t.Helper()
	for i := range n {
		addresses, err := add(s, c, fmt.Sprintf("c%d", i))
		if err != nil {
			t.Fatalf("container %d: %v", i, err)
		}
		var parts []string
		for _, a := range addresses {
			parts = append(parts, a.Prefix.Addr().String())
		}
		got = append(got, strings.Join(parts, " "))
	}
	return got
}

func TestAllocate(t *testing.T) {
	for _, c := range []struct {
		name, conf string
		want       []string // all there is
	}{
		{"smallest", `{"subnet": "10.1.0.0/30"}`, []string{"10.1.0.2"}},
		{"IPv6 has no broadcast address", `{"subnet": "fd00::/126"}`, []string{"fd00::2", "fd00::3"}},
		{"gateway in the middle", `{"subnet": "10.1.0.0/29", "gateway": "10.1.0.3"}`,
			[]string{"10.1.0.1", "10.1.0.2", "10.1.0.4", "10.1.0.5", "10.1.0.6"}},
		{"range up to the ends", `{"subnet": "10.1.0.0/29", "rangeStart": "10.1.0.0", "rangeEnd": "10.1.0.7", "exclude": ["10.1.0.4/31"]}`,
			[]string{"10.1.0.2", "10.1.0.3", "10.1.0.6"}},
		{"exclude at both ends, overlapping", `{"subnet": "10.1.0.0/28", "exclude": ["10.1.0.0/30", "10.1.0.3", "10.1.0.8/29", "10.1.0.12/30", "10.1.0.5"]}`,
			[]string{"10.1.0.4", "10.1.0.6", "10.1.0.7"}},
		{"two ranges, in their order", `{"ranges": [[{"subnet": "10.2.0.0/30"}, {"subnet": "10.1.0.0/30"}]]}`,
			[]string{"10.2.0.2", "10.1.0.2"}},
		{"over the edge of a block", `{"subnet": "10.1.0.0/22", "rangeStart": "10.1.0.254", "rangeEnd": "10.1.1.1"}`,
			[]string{"10.1.0.254", "10.1.0.255", "10.1.1.0", "10.1.1.1"}},
		{"dual stack", `{"ranges": [[{"subnet": "10.1.0.0/29", "rangeEnd": "10.1.0.3"}], [{"subnet": "fd00::/126"}]]}`,
			[]string{"10.1.0.2 fd00::2", "10.1.0.3 fd00::3"}},
		{"a gateway of another range", `{"ranges": [[{"subnet": "10.1.0.0/29", "rangeEnd": "10.1.0.3"}], [{"subnet": "10.1.0.0/29", "rangeStart": "10.1.0.4", "gateway": "10.1.0.2"}]]}`,
			[]string{"10.1.0.3 10.1.0.4"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, conf := store(t), parse(t, c.conf)
			if got := fill(t, s, conf, len(c.want)); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			var full *ExhaustedError
			if _, err := add(s, conf, "one more"); !errors.As(err, &full) {
				t.Errorf("one more: got %v, want an ExhaustedError", err)
			}
		})
	}
}

// TestLastAddress: a search that reaches the end of the address space ends. Parse
// would refuse the subnet, which is multicast.
func TestLastAddress(t *testing.T) {
	const end = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff"
	r := Range{Subnet: prefix(end + "c/126"), Gateway: addr("fe80::1"), Start: addr(end + "d"), End: addr(end + "f")}
	for _, c := range []struct {
		exclude []netip.Prefix
		want    []string
	}{
		{nil, []string{end + "d", end + "e", end + "f"}},
		{[]netip.Prefix{prefix(end + "f/128")}, []string{end + "d", end + "e"}},
		{[]netip.Prefix{prefix(end + "e/127")}, []string{end + "d"}},
	} {
		r.Exclude = c.exclude
		s, conf := store(t), &Config{Ranges: []RangeSet{{r}}}
		if got := fill(t, s, conf, len(c.want)); !slices.Equal(got, c.want) {
			t.Errorf("got %q, want %q", got, c.want)
		}
		var full *ExhaustedError
		if _, err := add(s, conf, "one more"); !errors.As(err, &full) {
			t.Errorf("one more: %v", err)
		}
	}
}

func TestResult(t *testing.T) {
	got, err := add(store(t), parse(t, `{"ranges": [[{"subnet": "10.1.0.0/16"}], [{"subnet": "fd00::/64", "gateway": "fe80::1"}]]}`), "c")
	if err != nil {
		t.Fatal(err)
	}
	want := []attach.Address{
		{Prefix: prefix("10.1.0.2/16"), Gateway: addr("10.1.0.1")},
		{Prefix: prefix("fd00::1/64"), Gateway: addr("fe80::1")},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestNextFit(t *testing.T) {
	s, conf := store(t), parse(t, `{"subnet": "10.1.0.0/29"}`) // .2 to .6
	fill(t, s, conf, 3)
	for i, want := range []string{"10.1.0.5", "10.1.0.6", "10.1.0.2", "10.1.0.5"} {
		// The freed address is the lowest that is free, and has to rest.
		if i == 0 {
			del(t, s, "c0")
		}
		got, err := add(s, conf, "x")
		if err != nil {
			t.Fatal(err)
		}
		if got[0].Prefix.Addr() != addr(want) {
			t.Errorf("allocation %d: got %s, want %s", i, got[0].Prefix.Addr(), want)
		}
		del(t, s, "x")
	}
	// A cursor that the configuration no longer has is no obstacle.
	got, err := add(s, parse(t, `{"subnet": "10.9.0.0/29"}`), "moved")
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Prefix.Addr() != addr("10.9.0.2") {
		t.Errorf("got %s after a change of subnet", got[0].Prefix)
	}
}

func TestRequested(t *testing.T) {
	const dual = `{"ranges": [[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "rangeEnd": "10.1.0.20", "exclude": ["10.1.0.12"]}], [{"subnet": "fd00::/64"}]]}`
	for _, c := range []struct {
		name, conf, ask, want string // want: addresses, or what the error has
	}{
		{"in the range", dual, "10.1.0.11", "10.1.0.11/24 fd00::2/64"},
		{"outside of the range", dual, "10.1.0.200", "10.1.0.200/24 fd00::2/64"},
		{"excluded", dual, "10.1.0.12", "10.1.0.12/24 fd00::2/64"},
		{"both sets, other order", dual, "fd00::77 10.1.0.13", "10.1.0.13/24 fd00::77/64"},
		{"the same twice", dual, "10.1.0.13 10.1.0.13", "10.1.0.13/24 fd00::2/64"},
		{"long notation", dual, "::ffff:10.1.0.13", "10.1.0.13/24 fd00::2/64"},
		{"the last of IPv6", dual, "fd00::ffff:ffff:ffff:ffff", "10.1.0.10/24 fd00::ffff:ffff:ffff:ffff/64"},
		{"gateway", dual, "10.1.0.1", "failed to allocate all requested IPs: 10.1.0.1\nrequested address 10.1.0.1: is the gateway of 10.1.0.0/24"},
		{"network", dual, "10.1.0.0", "requested address 10.1.0.0: is the network address of 10.1.0.0/24"},
		{"broadcast", dual, "10.1.0.255", "requested address 10.1.0.255: is the broadcast address of 10.1.0.0/24"},
		{"anycast", dual, "fd00::", "requested address fd00::: is the network address of fd00::/64"},
		{"foreign", dual, "10.2.0.7", "requested address 10.2.0.7: is in no subnet of the network, want one in 10.1.0.0/24 or fd00::/64"},
		{"two of one set", dual, "10.1.0.13 10.1.0.14", "failed to allocate all requested IPs: 10.1.0.14\nrequested addresses 10.1.0.13 and 10.1.0.14: both are of the ranges 10.1.0.10-10.1.0.20"},
		{"all that is wrong, in host-local's words first", dual, "10.1.0.1 10.2.0.7", "failed to allocate all requested IPs: 10.1.0.1 10.2.0.7\nrequested address 10.1.0.1: is the gateway of 10.1.0.0/24\nrequested address 10.2.0.7"},
		{"no subnet", `{}`, "10.1.0.7", "requested address 10.1.0.7: the network has no subnet"},
		{"held", dual, "fd00::1:1", "address fd00::1:1 is held by container holder (network net, eth0)"},
		{"sets that share a subnet", `{"ranges": [[{"subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.9"}], [{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10"}]]}`,
			"10.1.0.20 10.1.0.21", "10.1.0.21/24 10.1.0.20/24"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, conf := store(t), parse(t, c.conf)
			if c.name == "held" {
				if _, err := add(s, conf, "holder", addr("fd00::1:1")); err != nil {
					t.Fatal(err)
				}
				del(t, s, "holder") // and again, with the cursor elsewhere
				if _, err := add(s, conf, "holder", addr("fd00::1:1")); err != nil {
					t.Fatal(err)
				}
			}
			var ask []netip.Addr
			for _, a := range strings.Fields(c.ask) {
				ask = append(ask, addr(a))
			}
			got, err := add(s, conf, "c", ask...)
			if err != nil {
				if !strings.Contains(err.Error(), c.want) {
					t.Errorf("got error %q, want %q", err, c.want)
				}
				var held *attach.HeldError
				if (c.name == "held") != errors.As(err, &held) {
					t.Errorf("%v: HeldError: %v", err, held)
				}
				return
			}
			var parts []string
			for _, a := range got {
				parts = append(parts, a.Prefix.String())
			}
			if g := strings.Join(parts, " "); g != c.want {
				t.Errorf("got %s, want %s", g, c.want)
			}
		})
	}
}

// TestRequestedBeforeDynamic: the search does not take what a later set was asked for.
func TestRequestedBeforeDynamic(t *testing.T) {
	conf := parse(t, `{"ranges": [[{"subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.9"}], [{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10"}]]}`)
	got, err := add(store(t), conf, "c", addr("10.1.0.10"))
	if err != nil {
		t.Fatal(err)
	}
	if a, b := got[0].Prefix.Addr(), got[1].Prefix.Addr(); a != addr("10.1.0.2") || b != addr("10.1.0.10") {
		t.Errorf("got %s and %s", a, b)
	}
}

func TestExhausted(t *testing.T) {
	s, conf := store(t), parse(t, `{"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/30"}, {"subnet": "10.3.0.0/30"}]]}`)
	free := func() (err error) {
		if e := s.Update(context.Background(), func(tx *attach.Tx) error { err = conf.Free(tx, network); return nil }); e != nil {
			t.Fatal(e)
		}
		return err
	}
	fill(t, s, conf, 1)
	if err := free(); err != nil {
		t.Errorf("with a free address: %v", err)
	}
	if _, err := add(s, conf, "last"); err != nil {
		t.Fatal(err)
	}
	_, err := add(s, conf, "one more")
	want := `no free address in 10.2.0.1-10.2.0.2, 10.3.0.1-10.3.0.2 of network "net": containers lease all of them; widen the ranges of ipam`
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	var full *ExhaustedError
	if err := free(); !errors.As(err, &full) || err.Error() != want {
		t.Errorf("Free: %v", err)
	}
	del(t, s, "c0")
	if err := free(); err != nil {
		t.Errorf("after a DEL: %v", err)
	}
	// What failed has left nothing: the first set gives its next address.
	got, err := add(s, conf, "one more")
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Prefix.Addr() != addr("10.1.0.4") {
		t.Errorf("got %s: the failed allocation moved the cursor", got[0].Prefix)
	}
}
