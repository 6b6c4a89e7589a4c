package rtnl

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/nstest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// host is a socket in a namespace with a link d0, up.
func host(t *testing.T) (*Conn, *Link) {
	t.Helper()
	nstest.Host(t)
	c, err := Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.Links(); err != nil { // from then on questions are checked strictly
		t.Fatal(err)
	}
	must(t, c.Send(NewLink("d0", "bridge", 0, nil).Uint32(unix.IFLA_MTU, 1400)))
	l, err := c.LinkByName("d0")
	must(t, err)
	must(t, c.Send(NoLinkLocal(l.Index), SetLink(l.Index, unix.IFF_UP)))
	return c, l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

func TestLink(t *testing.T) {
	c, l := host(t)
	if l.Kind != "bridge" || l.MTU != 1400 || l.Up() || len(l.MAC) != 6 {
		t.Errorf("link %+v", l)
	}
	same, err := c.LinkByIndex(l.Index)
	if err != nil || same.Name != "d0" || !same.Up() {
		t.Errorf("by index %+v, %v", same, err)
	}
	quick, err := c.Glance("d0")
	if err != nil || quick.Index != l.Index || quick.MTU != 1400 || !slices.Equal(quick.MAC, l.MAC) || !quick.Up() {
		t.Errorf("at a glance %+v, %v", quick, err)
	}
	if name, err := c.Name(l.Index); err != nil || name != "d0" {
		t.Errorf("name %q, %v", name, err)
	}
	if i, err := c.Index("d0"); err != nil || i != l.Index {
		t.Errorf("index %d, %v", i, err)
	}
	for what, ask := range map[string]func() error{
		"name":  func() error { _, err := c.LinkByName("nobody"); return err },
		"index": func() error { _, err := c.LinkByIndex(99); return err },
		"ioctl": func() error { _, err := c.Glance("nobody"); return err },
	} {
		if err := ask(); !errors.Is(err, unix.ENODEV) {
			t.Errorf("a link that is not there, by %s: %v", what, err)
		}
	}
	if all, err := c.Links(); err != nil || len(all) != 2 || all[1].Name != "d0" {
		t.Errorf("links %v, %v", all, err)
	}
	must(t, c.Send(DeleteLink(l.Index)))
	if err := c.Send(DeleteLinkNamed("d0")); !IsGone(err) {
		t.Errorf("deleted twice: %v", err)
	}
}

func TestAddress(t *testing.T) {
	c, l := host(t)
	want := []Address{{l.Index, prefix("192.0.2.1/24"), unix.IFA_F_PERMANENT}, {l.Index, prefix("2001:db8::1/64"), unix.IFA_F_PERMANENT | unix.IFA_F_NODAD}}
	must(t, c.Send(want[0].Add(), want[1].Add()))
	if got, err := c.Addresses(l.Index); err != nil || !slices.Equal(got, want) {
		t.Errorf("addresses %v, %v; want %v", got, err, want)
	}
	if err := c.Send(want[0].Add()); !errors.Is(err, unix.EEXIST) {
		t.Errorf("added twice: %v", err)
	}
	must(t, c.Send(want[0].Put(), want[1].Put()))
	for a, want := range map[string]bool{"2001:db8::1": true, "2001:db8::2": false} {
		if got, err := c.HasAddress6(l.Index, addr(a)); err != nil || got != want {
			t.Errorf("has %s: %v, %v", a, got, err)
		}
	}
	for a, want := range map[string]bool{"192.0.2.1": true, "192.0.2.2": false, "::1": true, "2001:db8::2": false, "2001:db8:1::1": false} {
		if got, err := c.IsLocal(addr(a)); err != nil || got != want {
			t.Errorf("%s is local: %v, %v", a, got, err)
		}
	}
	must(t, c.Send(want[0].Delete(), want[1].Delete()))
	if got, err := c.Addresses(l.Index); err != nil || len(got) != 0 {
		t.Errorf("addresses %v, %v; want none", got, err)
	}
}

// What the kernel tells of a route is what was asked for.
func TestRoute(t *testing.T) {
	c, l := host(t)
	must(t, c.Send(Address{l.Index, prefix("192.0.2.1/24"), 0}.Add(), Address{l.Index, prefix("2001:db8::1/64"), unix.IFA_F_NODAD}.Add()))
	base := Route{Index: l.Index, Table: unix.RT_TABLE_MAIN, Protocol: 98, Type: unix.RTN_UNICAST}
	for what, edit := range map[string]func(r *Route){
		"on the link": func(r *Route) { r.Dst, r.Scope = prefix("198.51.100.0/24"), unix.RT_SCOPE_LINK },
		"by a gateway": func(r *Route) {
			r.Dst, r.Gateway, r.Source = prefix("198.51.100.0/24"), addr("192.0.2.2"), addr("192.0.2.1")
		},
		"onlink": func(r *Route) { r.Dst, r.Gateway, r.Onlink = prefix("198.51.100.0/24"), addr("203.0.113.1"), true },
		"with metrics": func(r *Route) {
			r.Dst, r.Gateway, r.MTU, r.AdvMSS = prefix("198.51.100.1/32"), addr("192.0.2.2"), 1300, 1200
		},
		"of a table": func(r *Route) {
			r.Dst, r.Gateway, r.Table, r.Priority = prefix("0.0.0.0/0"), addr("192.0.2.2"), 4242, 7
		},
		"of a TOS": func(r *Route) { r.Dst, r.Gateway, r.TOS = prefix("198.51.100.0/24"), addr("192.0.2.2"), 0x10 },
		"nowhere": func(r *Route) {
			r.Dst, r.Type, r.Index, r.Priority = prefix("198.51.100.0/24"), unix.RTN_UNREACHABLE, 0, 9
		},
		"IPv6": func(r *Route) { r.Dst, r.Gateway, r.Priority = prefix("2001:db8:1::/48"), addr("2001:db8::2"), 1024 },
		"IPv6 with a MTU": func(r *Route) {
			r.Dst, r.Gateway, r.Priority, r.MTU, r.LockMTU, r.Onlink = prefix("2001:db8:1::/48"), addr("2001:db8:7::2"), 5, 1300, true, true
		},
		"IPv6 default": func(r *Route) { r.Dst, r.Gateway, r.Priority = prefix("::/0"), addr("2001:db8::2"), 1024 },
	} {
		r := base
		edit(&r)
		filter := RouteFilter{Family: Family(r.Dst.Addr()), Index: r.Index, Protocol: 98, Type: r.Type}
		must(t, c.Send(r.Add()))
		if got, err := c.Routes(nil, filter); err != nil || len(got) != 1 || got[0] != r {
			t.Errorf("%s:\n%+v, %v\nwant %+v", what, got, err, r)
		}
		if err := c.Send(r.Add()); !errors.Is(err, unix.EEXIST) {
			t.Errorf("%s: added twice: %v", what, err)
		}
		must(t, c.Send(r.Put()))
		if err := c.Send(r.Delete()); err != nil {
			t.Errorf("%s: delete: %v", what, err)
		}
		if got, err := c.Routes(nil, filter); err != nil || len(got) != 0 {
			t.Errorf("%s: left %v, %v", what, got, err)
		}
		if err := c.Send(r.Delete()); !IsGone(err) {
			t.Errorf("%s: deleted twice: %v", what, err)
		}
	}
}

func TestRoutesTo(t *testing.T) {
	c, l := host(t)
	must(t, c.Send(Address{l.Index, prefix("192.0.2.1/24"), 0}.Add()))
	got, err := c.RoutesTo(addr("192.0.2.77"), addr("198.51.100.1"), addr("192.0.2.1"), addr("2001:db8::1"))
	must(t, err)
	if got[1] != nil || got[3] != nil {
		t.Errorf("ways to where there is none: %v", got)
	}
	if got[0] == nil || got[0].Index != l.Index || got[0].Dst != prefix("192.0.2.0/24") || got[2] == nil || got[2].Type != unix.RTN_LOCAL {
		t.Errorf("ways %+v, %+v", got[0], got[2])
	}
}

// Routes that these fields do not tell all of say so.
func TestMoreOfRoute(t *testing.T) {
	c, _ := host(t)
	for _, cmd := range []string{
		"ip address add 192.0.2.1/24 dev d0",
		"ip nexthop add id 9 via 192.0.2.9 dev d0",
		"ip route add 198.51.100.1 nhid 9",
		"ip route add 198.51.100.2 nexthop via 192.0.2.2 nexthop via 192.0.2.3",
		"ip route add 198.51.100.3 via 192.0.2.2 rtt 100ms",
	} {
		must(t, nstest.Run("sh", "-c", cmd))
	}
	all, err := c.Routes(nil, RouteFilter{Family: unix.AF_INET, Table: unix.RT_TABLE_MAIN})
	must(t, err)
	more := 0
	for _, r := range all {
		if r.More {
			more++
			if err := c.Send(r.Delete()); err != nil {
				t.Errorf("delete %+v: %v", r, err)
			}
		}
	}
	if more != 3 {
		t.Errorf("%d of %+v have more, want 3", more, all)
	}
}

func TestNeighbour(t *testing.T) {
	c, l := host(t)
	for _, n := range []Neighbour{
		{l.Index, addr("192.0.2.2"), EUI48{2, 0, 0, 0, 0, 1}, unix.NUD_PERMANENT},
		{l.Index, addr("2001:db8::2"), EUI48{2, 0, 0, 0, 0, 2}, unix.NUD_PERMANENT},
	} {
		must(t, c.Send(n.Put()))
		if got, err := c.Neighbours(nil, Family(n.Addr), l.Index); err != nil || len(got) != 1 || got[0] != n {
			t.Errorf("neighbours %v, %v; want %v", got, err, n)
		}
		if got, ok, err := c.Neighbour(l.Index, n.Addr); err != nil || !ok || got != n {
			t.Errorf("neighbour %v, %v, %v; want %v", got, ok, err, n)
		}
		must(t, c.Send(n.Delete()))
		if _, ok, err := c.Neighbour(l.Index, n.Addr); err != nil || ok {
			t.Errorf("a neighbour that is gone: %v, %v", ok, err)
		}
	}
}

func TestVXLAN(t *testing.T) {
	c, l := host(t)
	want := VXLAN{Link: Link{Name: "vx0", MAC: []byte{2, 0, 0, 0, 0, 9}, MTU: 1300}, VNI: 42, Port: 4789, Local: addr("192.0.2.1"), Underlay: l.Index}
	must(t, c.Send(want.New()))
	got, err := c.VXLAN("vx0")
	must(t, err)
	if !got.IsVXLAN() || got.VNI != 42 || got.Port != 4789 || got.Local != want.Local || got.Underlay != l.Index ||
		got.Learning || got.Grouped || got.MTU != 1300 || !slices.Equal(got.MAC, want.MAC) || !got.IPv6 || !got.GenAddr {
		t.Errorf("VXLAN device %+v", got)
	}
	want.Local = addr("192.0.2.7")
	must(t, c.Send(want.Change(got.Index), SetInet(got.Index, RPFilter, 2), NoLinkLocal(got.Index), SetLink(got.Index, unix.IFF_UP)))
	all, err := c.VXLANs()
	if err != nil || len(all) != 1 || all[0].Local != want.Local || all[0].RPFilter != 2 || all[0].GenAddr || !all[0].Up() {
		t.Errorf("VXLAN devices %+v, %v", all, err)
	}
	if none, err := c.VXLAN("nobody"); none != nil || err != nil {
		t.Errorf("no device: %v, %v", none, err)
	}
	e := FDBEntry{Index: got.Index, MAC: EUI48{2, 0, 0, 0, 0, 3}, Dst: addr("192.0.2.3"), State: unix.NUD_PERMANENT}
	must(t, c.Send(e.Put()))
	if fdb, err := c.FDB(nil, got.Index); err != nil || len(fdb) != 1 || fdb[0] != e {
		t.Errorf("forwarding entries %+v, %v; want %+v", fdb, err, e)
	}
	e.Dst = addr("192.0.2.4")
	must(t, c.Send(e.Put()))
	if one, ok, err := c.FDBEntry(got.Index, e.MAC); err != nil || !ok || one != e {
		t.Errorf("forwarding entry %+v, %v, %v; want %+v", one, ok, err, e)
	}
	must(t, c.Send(e.Delete()))
	if _, ok, err := c.FDBEntry(got.Index, e.MAC); err != nil || ok {
		t.Errorf("a forwarding entry that is gone: %v, %v", ok, err)
	}
}

// No message, however broken, is more than one that is not understood.
func FuzzParse(f *testing.F) {
	d := VXLAN{Link: Link{Name: "vx0", MAC: make([]byte, 6)}, Local: addr("192.0.2.1")}
	for _, r := range []*netlink.Request{d.New(), Address{1, prefix("192.0.2.1/24"), 1}.Add(),
		Route{Dst: prefix("2001:db8::/32"), MTU: 1300, LockMTU: true}.Add(),
		Neighbour{1, addr("192.0.2.1"), EUI48{2}, 1}.Put(), FDBEntry{Index: 1, MAC: EUI48{2}, Dst: addr("192.0.2.1")}.Put()} {
		f.Add(r.Append(nil, 1, 0))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for m := range netlink.Messages(data) {
			ParseVXLAN(m)
			ParseNeighbour(m)
			ParseFDBEntry(m)
			if r, ok := ParseRoute(m); ok && !r.Dst.IsValid() {
				t.Errorf("route to %v", r.Dst)
			}
			if a, ok := ParseAddress(m); ok && !a.Prefix.IsValid() {
				t.Errorf("address %v", a)
			}
		}
	})
}
