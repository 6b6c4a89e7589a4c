package firewall

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"github.com/berth-cni/berth/pkg/nstest"
	"golang.org/x/sys/unix"
)

// many is a container of both families with 1,000 ports.
func many(name string, r *Rules, addrs ...string) *attach.Attachment {
	a := attachment(name, addrs)
	for port := range uint16(1000) {
		a.Ports = append(a.Ports, attach.Port{HostPort: 20000 + port, ContainerPort: 80, Protocol: "tcp"})
	}
	a.Steps = []attach.Step{r}
	return a
}

// alone adds the step for the only attachment of the host.
func alone(s attach.Step) func(context.Context, *attach.Attachment) error {
	return func(ctx context.Context, a *attach.Attachment) error {
		all := []*attach.Attachment{a}
		return s.Add(ctx, &attach.Adding{Attachment: a, All: recordsOf(&all)})
	}
}

// TestManyPorts: what the kernel answers to thousands of messages is more than a
// socket holds by itself.
func TestManyPorts(t *testing.T) {
	nstest.Host(t)
	r := &Rules{Backend: NFTables, Bridge: "br1", Masquerade: true}
	a := many("a", r, "10.1.0.2/24", "fd00:1::2/64")
	steps := []struct {
		what string
		do   func(context.Context, *attach.Attachment) error
	}{
		{"Del on a fresh host", r.Del}, {"Add", alone(r)}, {"Check", r.Check}, {"Add again", alone(r)}, {"Check", r.Check},
		{"Del", r.Del}, {"Del again", r.Del}, {"Add", alone(r)},
	}
	for _, s := range steps {
		if err := s.do(t.Context(), a); err != nil {
			t.Fatalf("%s: %v", s.what, err)
		}
	}
	// Every port is held by what somebody left: every message is refused.
	b := many("b", r, "10.1.0.3/24", "fd00:1::3/64")
	if err := alone(r)(t.Context(), b); err != nil {
		t.Fatalf("Add over stale ports: %v", err)
	}
	if err := r.Check(t.Context(), b); err != nil {
		t.Error(err)
	}
	if r.Check(t.Context(), a) == nil {
		t.Error("Check finds the ports of another container")
	}
	run(t, "nft flush ruleset")
	if r.Check(t.Context(), b) == nil {
		t.Error("Check misses nothing")
	}
	if err := r.Del(t.Context(), b); err != nil {
		t.Errorf("Del without the table: %v", err)
	}
}

// TestManyRefused has all messages of a large transaction refused.
func TestManyRefused(t *testing.T) {
	nstest.Host(t)
	s, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write(addresses(20000)); err == nil {
		t.Fatal("added to a table that is not there")
	} else if want := "nftables set masq4 of table inet berth: no such file or directory"; err.Error() != "add to "+want {
		t.Errorf("error %q, want %q", err, want)
	}
}

// TestManyMadeBefore makes a table where there is another one: every message with
// elements comes back, whole.
func TestManyMadeBefore(t *testing.T) {
	nstest.Host(t)
	run(t, "nft add table inet berth")
	run(t, "nft add set inet berth masq4 { type ifname; }")
	if err := inet.Make(false, addresses(20000)); !errors.Is(err, unix.EEXIST) {
		t.Errorf("error %v, want %v", err, unix.EEXIST)
	}
	if err := inet.Make(true, addresses(20000)); err != nil {
		t.Error(err)
	}
	s, err := dial()
	if err == nil {
		err = s.Verify(addresses(20000), nil)
	}
	if err != nil {
		t.Error(err)
	}
}

func addresses(n int) (elements []nftnl.Element) {
	for i := range n {
		addr := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		elements = append(elements, nftnl.Element{Set: masq4, Key: addr.AsSlice(), Comment: "x"})
	}
	return elements
}
