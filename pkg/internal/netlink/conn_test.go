package netlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/nstest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func dialed(t *testing.T) *Conn {
	t.Helper()
	c, err := Dial(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ifinfomsg is struct ifinfomsg.
func ifinfomsg(index int) []byte {
	h := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(h[4:], uint32(index))
	return h
}

func newBridge(name string) *Request {
	r := NewRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, ifinfomsg(0)).Text(unix.IFLA_IFNAME, name)
	return r.Nest(unix.IFLA_LINKINFO, func() { r.Text(unix.IFLA_INFO_KIND, "bridge") })
}

func link(name string) *Request {
	return NewQuestion(unix.RTM_GETLINK, ifinfomsg(0)).Text(unix.IFLA_IFNAME, name)
}

func nameOf(m Message) (string, bool) {
	return Text(Find(m.Body[unix.SizeofIfInfomsg:], unix.IFLA_IFNAME)), m.Kind == unix.RTM_NEWLINK
}

// Each request of a batch has its own answer, and one that is refused ends nothing.
func TestBatch(t *testing.T) {
	nstest.Host(t)
	c := dialed(t)
	var reqs []*Request
	const n = 3 * (window + 1)
	for i := range n {
		switch i % 3 {
		case 0:
			reqs = append(reqs, newBridge(fmt.Sprintf("br%d", i/3)))
		case 1:
			reqs = append(reqs, newBridge(fmt.Sprintf("br%d", i/3))) // there already
		case 2:
			reqs = append(reqs, link(fmt.Sprintf("br%d", i/3)))
		}
	}
	answers := map[int]string{}
	err := c.Do(reqs, func(i int, m Message) { answers[i], _ = nameOf(m) })
	if !errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOENT) {
		t.Errorf("error %v, want EEXIST", err)
	}
	refused := Refusals(fmt.Errorf("add: %w", err))
	for i := range n {
		if want := fmt.Sprintf("br%d", i/3); i%3 == 2 && answers[i] != want {
			t.Errorf("question %d was answered %q, want %q", i, answers[i], want)
		}
	}
	if len(refused) != n/3 || len(answers) != n/3 {
		t.Fatalf("%d refusals and %d answers, want %d", len(refused), len(answers), n/3)
	}
	for i, e := range refused {
		if e.Index != 3*i+1 || e.Errno != unix.EEXIST {
			t.Errorf("refusal %d is %d: %v", i, e.Index, e)
		}
	}
	if !strings.Contains(err.Error(), "request 2: file exists") || !strings.HasSuffix(err.Error(), fmt.Sprintf("and %d more", n/3-told)) {
		t.Errorf("error %q", err)
	}
}

// The kernel's own words are in the error, also after a long request that it repeats.
func TestExtendedAck(t *testing.T) {
	nstest.Host(t)
	c := dialed(t)
	for _, alias := range []int{0, 1, 255} {
		r := NewRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE, ifinfomsg(0)).Text(unix.IFLA_IFNAME, "x").Bytes(unix.IFLA_IFALIAS, make([]byte, alias))
		err := c.Do([]*Request{r.Nest(unix.IFLA_LINKINFO, func() { r.Text(unix.IFLA_INFO_KIND, "nonesuch") })}, nil)
		if !errors.Is(err, unix.EOPNOTSUPP) || err.Error() != "operation not supported: Unknown device type" {
			t.Errorf("an unknown kind: %v", err)
		}
	}
	err := c.Do([]*Request{link("nobody")}, func(int, Message) { t.Error("an answer") })
	if err == nil || err.Error() != "no such device" {
		t.Errorf("an unknown name: %v", err)
	}
	if Refusals(errNoAnswer) != nil || Refusals(nil) != nil {
		t.Error("an error of another kind is a refusal")
	}
}

func TestList(t *testing.T) {
	nstest.Host(t)
	c := dialed(t)
	var reqs []*Request
	const n = 300 // more than one part
	for i := range n {
		reqs = append(reqs, newBridge(fmt.Sprintf("br%d", i)))
	}
	if err := c.Do(reqs, nil); err != nil {
		t.Fatal(err)
	}
	all, err := List(c, NewQuestion(unix.RTM_GETLINK, ifinfomsg(0)), []string{"before"}, nameOf)
	if err != nil || all[0] != "before" || !slices.Contains(all, "lo") || len(all) != n+2 { // lo is the first since 6.10
		t.Errorf("%d links %v..., %v", len(all), all[:2], err)
	}
	_, err = List(c, NewQuestion(unix.RTM_GETLINK, []byte{1}), nil, nameOf)
	if !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "Invalid header") {
		t.Errorf("a bad question: %v", err)
	}
	if got := len(reqs) + 2; c.Requests() != got {
		t.Errorf("%d requests, want %d", c.Requests(), got)
	}
}

// Answers that do not fit the socket's buffer are missed, and nothing waits for them.
func TestLostAnswers(t *testing.T) {
	nstest.Host(t)
	c := dialed(t)
	if err := unix.SetsockoptInt(c.FD(), unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil {
		t.Fatal(err)
	}
	var reqs []*Request
	for range window {
		reqs = append(reqs, link("lo"))
	}
	if err := c.Do(reqs, nil); err == nil || Refusals(err) != nil {
		t.Errorf("lost answers: %v", err)
	}
	if err := c.Do([]*Request{link("nobody")}, nil); !errors.Is(err, unix.ENODEV) {
		t.Errorf("the next question, after late answers of others: %v", err)
	}
}

// An nftables transaction has an end that is not answered.
func TestTransaction(t *testing.T) {
	nstest.Host(t)
	c, err := Dial(unix.NETLINK_NETFILTER)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	table := func(verb uint16, flags uint16, name string) *Request {
		return NewRequest(unix.NFNL_SUBSYS_NFTABLES<<8|verb, flags, []byte{unix.NFPROTO_INET, 0, 0, 0}).Text(unix.NFTA_TABLE_NAME, name)
	}
	transact := func(changes ...*Request) error {
		edge := []byte{0, 0, 0, unix.NFNL_SUBSYS_NFTABLES}
		all := append([]*Request{NewRequest(unix.NFNL_MSG_BATCH_BEGIN, 0, edge)}, changes...)
		return c.Transact(append(all, NewRequest(unix.NFNL_MSG_BATCH_END, 0, edge)))
	}
	var many []*Request
	const n = 1000
	for i := range n {
		many = append(many, table(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, fmt.Sprintf("t%d", i)))
	}
	if err := transact(many...); err != nil {
		t.Fatal(err)
	}
	refused := Refusals(transact(many...))
	if len(refused) != n || refused[0].Index != 1 || refused[n-1].Index != n || refused[0].Errno != unix.EEXIST {
		t.Errorf("%d refusals, want %d", len(refused), n)
	}
	err = transact(table(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, "new"), table(unix.NFT_MSG_DELTABLE, 0, "nobody"))
	if r := Refusals(err); len(r) != 1 || r[0].Index != 2 || r[0].Errno != unix.ENOENT {
		t.Errorf("a refusal: %v", err)
	}
	if out, err := nstest.Output("nft", "list", "tables"); err != nil || strings.Count(out, "\n") != n {
		t.Errorf("%d tables, %v; want %d", strings.Count(out, "\n"), err, n)
	}
}
