package nftnl

import (
	"fmt"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// Supported asks whether the kernel takes the table: options NF_TABLES_INET, _IPV4, _IPV6
// and NF_TABLES_BRIDGE have the families. It does where the table is there: one question.
// Else a transaction makes it, with a chain, and ends with a change that is always refused,
// so that nothing is made.
func (t *Table) Supported() error {
	s, err := Dial()
	if err != nil {
		return err
	}
	err = s.Do(t.own(t.question(GetTable)))
	if e := netlink.Refusals(err); e == nil || e[0].Errno != unix.ENOENT {
		return err
	}
	chain := t.own(t.request(NewChain, unix.NLM_F_CREATE)).Text(unix.NFTA_CHAIN_NAME, "berth-probe")
	chain.Nest(unix.NFTA_CHAIN_HOOK, func() {
		chain.Bytes(unix.NFTA_HOOK_HOOKNUM, Number(unix.NF_INET_PRE_ROUTING)).Bytes(unix.NFTA_HOOK_PRIORITY, Number(0))
	}).Text(unix.NFTA_CHAIN_TYPE, "filter")
	refused, err := s.transact([]*netlink.Request{
		t.own(t.request(NewTable, unix.NLM_F_CREATE)), chain,
		t.request(DelTable, 0).Text(unix.NFTA_TABLE_NAME, "berth-absent"),
	})
	if err == nil && len(refused) > 0 && refused[0].Index < 2 {
		err = fmt.Errorf("try to make %s: %w", t, refused[0])
	}
	return err
}
