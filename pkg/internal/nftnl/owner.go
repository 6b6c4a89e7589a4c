package nftnl

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// Owner makes tables that last as long as its socket: nobody else can change or remove
// them, and the kernel removes them when the socket is closed, by whatever end of the process
// (NFT_TABLE_F_OWNER, kernel 5.12). Before that they are removed by Close, and those of a
// process that was killed by the next owner that has the same prefix.
type Owner struct {
	// Name is that of its tables: a prefix and the socket's netlink address, which no two
	// sockets of a network namespace have.
	Name string

	prefix string
	conn   *netlink.Conn
	stay   []*Table // that the kernel does not remove
}

const (
	tableFlags = 2 // NFTA_TABLE_FLAGS
	tableOwner = 2 // NFT_TABLE_F_OWNER
)

// Own opens one in the calling thread's network namespace.
func Own(prefix string) (*Owner, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	port, err := c.Port()
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &Owner{Name: fmt.Sprintf("%s%d", prefix, port), prefix: prefix, conn: c}, nil
}

// Make makes a table, which has to have the owner's name.
func (o *Owner) Make(t *Table) error {
	err := o.make(t, tableOwner)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	o.sweep(t.Family)
	if err = o.make(t, 0); err == nil {
		o.stay = append(o.stay, t)
	}
	return err
}

func (o *Owner) make(t *Table, flags uint32) error {
	all := []*netlink.Request{t.own(t.request(NewTable, unix.NLM_F_CREATE|unix.NLM_F_EXCL)).Bytes(tableFlags, Number(flags))}
	for _, c := range t.Chains() {
		reqs, err := t.chain(c)
		if err != nil {
			return fmt.Errorf("encode chain %s: %w", c.Name, err)
		}
		all = append(all, reqs...)
	}
	if err := o.conn.Transact(transaction(all)); err != nil {
		return fmt.Errorf("make %s: %w", t, err)
	}
	return nil
}

// Close removes the tables.
func (o *Owner) Close() error {
	var err error
	for _, t := range o.stay {
		err = errors.Join(err, o.remove(t.Family, t.Name))
	}
	return errors.Join(err, o.conn.Close())
}

func (o *Owner) remove(family uint8, name string) error {
	return o.conn.Transact(transaction([]*netlink.Request{Request(DelTable, 0, family).Text(unix.NFTA_TABLE_NAME, name)}))
}

// sweep removes tables whose owner is gone.
func (o *Owner) sweep(family uint8) {
	sockets := sockets()
	names, err := netlink.List(o.conn, Question(GetTable, family), nil, func(m netlink.Message) (string, bool) {
		return netlink.Text(m.Find(HeaderLen, unix.NFTA_TABLE_NAME)), len(m.Body) >= HeaderLen && m.Body[0] == family
	})
	if err != nil || sockets == nil { // then it is not known who lives
		return
	}
	for _, name := range names {
		port, ours := strings.CutPrefix(name, o.prefix)
		if _, err := strconv.ParseUint(port, 10, 32); ours && err == nil && !sockets[port] {
			_ = o.remove(family, name)
		}
	}
}

// sockets are the addresses of netfilter's sockets in the calling thread's network
// namespace; nil: the kernel does not say.
func sockets() map[string]bool {
	data, err := os.ReadFile("/proc/thread-self/net/netlink")
	if err != nil {
		return nil
	}
	all := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == strconv.Itoa(unix.NETLINK_NETFILTER) { // sk, protocol, address
			all[f[2]] = true
		}
	}
	return all
}
