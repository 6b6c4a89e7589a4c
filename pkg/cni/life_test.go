package cni

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/containernetworking/cni/pkg/types"
)

// small is the configuration of a mode whose only work is lo.
type small struct{ Conf }

func (c *small) Plan(r *Request) ([]attach.Step, error) {
	n := &attach.Network{Name: c.Name, Plugin: "small", Link: "lo", Subnets: r.IPAM.Subnets()}
	return []attach.Step{n, r.Addresses(r.IPAM), &link.Loopback{}}, nil
}

// lease is the configuration of one that only gives addresses.
type lease struct{ Conf }

func (c *lease) Plan(r *Request) ([]attach.Step, error) {
	return []attach.Step{r.Addresses(r.IPAM)}, nil
}

func smallConf() Config { return &small{} }

// run runs a verb for container c1 and returns the answer.
func run(t *testing.T, m Mode, verb, netns, conf string) (answer string, err error) {
	t.Helper()
	var out bytes.Buffer
	p := &plugin{Mode: m, ctx: t.Context(), out: &out}
	err = p.verb(t, verb, netns, conf)
	return out.String(), err
}

func (p *plugin) verb(t *testing.T, verb, netns, conf string) error {
	t.Helper()
	r, err := p.Request(p.ctx, &CmdArgs{ContainerID: "c1", IfName: "eth0", Netns: netns, StdinData: []byte(conf)})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]func(*Request) error{"ADD": p.add, "DEL": p.del, "CHECK": p.check, "GC": p.gc, "STATUS": p.status}[verb](r)
}

// host gives the test a host of its own, with an empty store.
func host(t *testing.T) *attach.Store {
	t.Helper()
	nstest.Host(t)
	t.Setenv(attach.DirEnv, t.TempDir())
	s := attach.New("", Decode)
	if err := s.Update(t.Context(), func(*attach.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	return s
}

// recorded are the roles of the records.
func recorded(t *testing.T, s *attach.Store) string {
	t.Helper()
	all, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var roles []string
	for _, a := range all {
		roles = append(roles, fmt.Sprintf("%s:%s", a.Container, a.Role))
	}
	return strings.Join(roles, " ")
}

const netConf = `{"cniVersion": "1.1.0", "name": "n", "ipam": {"subnet": "10.1.0.0/24"}}`

// TestLife takes a container of every kind of mode through its life.
func TestLife(t *testing.T) {
	for _, c := range []struct {
		what            string
		mode            Mode
		record, answer  string
		again, gone     uint // the code of a second ADD, of CHECK without a record; 0: none
		elsewhere, host uint // of CHECK and of ADD in another namespace, and in the host's
	}{
		{"makes an interface", Mode{Config: smallConf}, "c1:", `"name":"lo"`, CodeAttached, types.ErrUnknownContainer, CodeMissing, 4},
		{"joins", Mode{Joins: true, Config: smallConf}, "c1:", `"name":"lo"`, CodeAttached, types.ErrUnknownContainer, CodeMissing, 4},
		{"chains", Mode{Chains: true, Config: smallConf}, "c1:", `"name":"lo"`, CodeAttached, types.ErrUnknownContainer, CodeMissing, 4},
		{"leases", Mode{Leases: true, Config: func() Config { return &lease{} }}, "c1:ipam", `"address":"10.1.0.`, CodeAttached, types.ErrUnknownContainer, 0, 0},
		{"keeps no record", Mode{Unrecorded: true, Config: smallConf}, "", `"name":"lo"`, 0, 0, CodeMissing, 4},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := host(t)
			netns, other := nstest.Namespace(t), nstest.Namespace(t)
			want := func(what string, err error, number uint) {
				t.Helper()
				if err == nil && number != 0 || err != nil && code(err).Code != number {
					t.Errorf("%s: %v, want code %d", what, err, number)
				}
			}
			_, err := run(t, c.mode, "ADD", "/proc/thread-self/ns/net", netConf)
			if c.host != 0 {
				want("ADD on the host", err, c.host)
			} else if _, err := run(t, c.mode, "DEL", "", netConf); err != nil {
				t.Fatal(err)
			}
			answer, err := run(t, c.mode, "ADD", netns, netConf)
			want("ADD", err, 0)
			if !strings.Contains(answer, c.answer) || recorded(t, s) != c.record {
				t.Errorf("answer %s, records %q", answer, recorded(t, s))
			}
			_, err = run(t, c.mode, "ADD", netns, netConf)
			want("a second ADD", err, c.again)
			_, err = run(t, c.mode, "CHECK", netns, netConf)
			want("CHECK", err, 0)
			_, err = run(t, c.mode, "CHECK", other, netConf)
			want("CHECK of another namespace", err, c.elsewhere)
			for _, when := range []string{"DEL", "a second DEL"} {
				_, err = run(t, c.mode, "DEL", "", netConf)
				want(when, err, 0)
			}
			if left := recorded(t, s); left != "" {
				t.Errorf("DEL left %s", left)
			}
			_, err = run(t, c.mode, "CHECK", netns, netConf)
			want("CHECK after DEL", err, c.gone)
		})
	}
}

// TestOnHost: lo of the host's namespace is looked at for a container that is on
// record there, and for no other.
func TestOnHost(t *testing.T) {
	s := host(t)
	lo := Mode{Unrecorded: true, Config: func() Config { return &bare{} }}
	if _, err := run(t, lo, "ADD", "/proc/thread-self/ns/net", netConf); code(err).Code != types.ErrInvalidEnvironmentVariables {
		t.Errorf("nobody on record: %v", err)
	}
	cookie, err := netns.HostCookie()
	if err != nil {
		t.Fatal(err)
	}
	a := &attach.Attachment{Key: attach.Key{Network: "host", Container: "c1", IfName: "eth0"}, Cookie: cookie}
	if err := s.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"ADD", "CHECK"} {
		if _, err := run(t, lo, verb, "/proc/thread-self/ns/net", netConf); err != nil {
			t.Errorf("%s: %v", verb, err)
		}
	}
}

// TestForgetGone: a network whose interface is gone is in nobody's way.
func TestForgetGone(t *testing.T) {
	s := host(t)
	m := Mode{Config: smallConf}
	old := attach.Network{Name: "old", Link: "br9", Subnets: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}
	if err := s.Update(t.Context(), func(tx *attach.Tx) error { return tx.PutNetwork(old) }); err != nil {
		t.Fatal(err)
	}
	known := func() (ok bool) {
		t.Helper()
		err := s.View(t.Context(), func(tx *attach.Tx) error { _, ok = tx.Network("old"); return nil })
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if err := nstest.Run("ip", "link", "add", "br9", "type", "bridge"); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, m, "ADD", nstest.Namespace(t), netConf); code(err).Code != types.ErrInvalidNetworkConfig || !known() {
		t.Errorf("overlapping: %v, known %v", err, known())
	}
	if err := nstest.Run("ip", "link", "del", "br9"); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, m, "ADD", nstest.Namespace(t), netConf); err != nil || known() {
		t.Errorf("its bridge is gone: %v, known %v", err, known())
	}
}

type closed struct{}

func (closed) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestNobodyListens: without a result there is no attachment.
func TestNobodyListens(t *testing.T) {
	for _, m := range []Mode{{Config: smallConf}, {Unrecorded: true, Config: smallConf}} {
		s := host(t)
		p := &plugin{Mode: m, ctx: t.Context(), out: closed{}}
		if err := p.verb(t, "ADD", nstest.Namespace(t), netConf); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%v", err)
		}
		if left := recorded(t, s); left != "" {
			t.Errorf("left %s", left)
		}
	}
}

// TestDelUnknown deletes what has the attachment's name, and is on no record.
func TestDelUnknown(t *testing.T) {
	host(t)
	name := attach.Key{Network: "n", Container: "c1", IfName: "eth0"}.HostIfName()
	for _, c := range []struct {
		mode Mode
		left bool
	}{{Mode{Leases: true, Config: func() Config { return &lease{} }}, true}, {Mode{Unrecorded: true, Config: smallConf}, true}, {Mode{Config: smallConf}, false}} {
		if there, err := link.Exists(name); err != nil {
			t.Fatal(err)
		} else if !there {
			if err := nstest.Run("ip", "link", "add", name, "type", "veth", "peer", "name", "other"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := run(t, c.mode, "DEL", "", netConf); err != nil {
			t.Error(err)
		}
		if there, err := link.Exists(name); err != nil || there != c.left {
			t.Errorf("%+v: the interface is there %v, %v", c.mode, there, err)
		}
	}
}

// TestGC: a list that does not name the attachment ends it, no list does not.
func TestGC(t *testing.T) {
	s := host(t)
	m := Mode{Config: smallConf}
	if _, err := run(t, m, "ADD", nstest.Namespace(t), netConf); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ list, left string }{
		{`"a": 1`, "c1:"}, {`"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]`, "c1:"},
		{`"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth1"}]`, ""},
	} {
		if _, err := run(t, m, "GC", "", `{"cniVersion": "1.1.0", "name": "n", `+c.list+`}`); err != nil || recorded(t, s) != c.left {
			t.Errorf("%s: %v, left %q", c.list, err, recorded(t, s))
		}
	}
}

// TestStatus: a network without a free address is not ready.
func TestStatus(t *testing.T) {
	s := host(t)
	m := Mode{Config: smallConf}
	const tiny = `{"cniVersion": "1.1.0", "name": "n", "ipam": {"subnet": "10.1.0.0/30"}}`
	if _, err := run(t, m, "STATUS", "", tiny); err != nil {
		t.Error(err)
	}
	err := s.Update(t.Context(), func(tx *attach.Tx) error {
		return tx.Lease(netip.MustParseAddr("10.1.0.2"), attach.Key{Network: "n", Container: "x", IfName: "eth0"})
	})
	if err != nil {
		t.Fatal(err)
	}
	for conf, want := range map[string]string{tiny: "no free address", `{"cniVersion": "1.1.0", "name": "n", "ipam": {"subnet": "x"}}`: "ipam.subnet"} {
		if _, err := run(t, m, "STATUS", "", conf); code(err).Code != types.ErrPluginNotAvailable || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", conf, err, want)
		}
	}
}
