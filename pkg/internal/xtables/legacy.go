package xtables

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"github.com/berth-cni/berth/pkg/internal/proc"
	"golang.org/x/sys/unix"
)

// iptables in the form that it had before nftables is read with getsockopt(2) on a raw
// socket: a table is one run of entries, those of the built-in chains first, each of
// which ends with its policy (struct ipt_getinfo and ipt_get_entries in
// linux/netfilter_ipv4/ip_tables.h, ip6t_* in netfilter_ipv6/ip6_tables.h).

// xtable is such a table of one family.
type xtable struct {
	info    xtInfo
	entries []byte
	layout  *xtLayout
}

// xtInfo is struct ipt_getinfo. Offsets are bytes into the entries.
type xtInfo struct {
	Name       [32]byte
	ValidHooks uint32
	Hook       [5]uint32 // of the first rule of each built-in chain
	Underflow  [5]uint32 // of its policy
	Entries    uint32
	Size       uint32 // of all entries
}

// xtLayout is where an entry of a family (struct ipt_entry, ip6t_entry) has its sizes.
type xtLayout struct {
	domain, level, protocol int
	target, next            int // offsets of target_offset and next_offset, two bytes each
	names                   string
}

var xtLayouts = map[bool]*xtLayout{
	false: {unix.AF_INET, unix.SOL_IP, unix.IPPROTO_RAW, 88, 90, "/proc/thread-self/net/ip_tables_names"},
	true:  {unix.AF_INET6, unix.SOL_IPV6, unix.IPPROTO_RAW, 140, 142, "/proc/thread-self/net/ip6_tables_names"},
}

// hooks are the numbers of the built-in chains (NF_INET_*, linux/netfilter.h).
var hooks = map[string]int{"PREROUTING": unix.NF_INET_PRE_ROUTING, "INPUT": unix.NF_INET_LOCAL_IN, "FORWARD": unix.NF_INET_FORWARD,
	"OUTPUT": unix.NF_INET_LOCAL_OUT, "POSTROUTING": unix.NF_INET_POST_ROUTING}

// InUse tells whether a program has used a table of the older form since boot: it exists
// only then, and is not made by asking for it.
func InUse(table string, v6 bool) bool {
	tables, _ := proc.Read(xtLayouts[v6].names) // absent: none was used
	return slices.Contains(strings.Split(tables, "\n"), table)
}

// legacyChains are built-in chains of the filter tables.
func legacyChains(names []string) (all []Chain, err error) {
	for _, v6 := range []bool{false, true} {
		if !InUse("filter", v6) {
			continue
		}
		form := Form{Legacy: true, V6: v6}
		t, err := readXtable("filter", xtLayouts[v6])
		if err != nil {
			return nil, fmt.Errorf("read the filter table of %s: %w", form, err)
		}
		for _, name := range names {
			drops, err := t.drops(hooks[name])
			if err != nil {
				return nil, fmt.Errorf("read the filter table of %s: %w", form, err)
			}
			all = append(all, Chain{Form: form, Name: name, Drops: drops,
				Count: func(comment string) (int, error) { return t.count(hooks[name], terminated(comment)) }})
		}
	}
	return all, nil
}

// readXtable reads a table. One that is changed while it is read is read again.
func readXtable(name string, layout *xtLayout) (*xtable, error) {
	fd, err := unix.Socket(layout.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, layout.protocol)
	if err != nil {
		return nil, fmt.Errorf("open raw socket: %w", err)
	}
	defer unix.Close(fd)
	const getInfo, getEntries = 64, 65 // IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES; the same for IPv6
	const header = 40                  // name, size, and the padding before the entries
	for range 20 {
		t := &xtable{layout: layout}
		copy(t.info.Name[:], name)
		if err = getsockopt(fd, layout.level, getInfo, unsafe.Slice((*byte)(unsafe.Pointer(&t.info)), unsafe.Sizeof(t.info))); err != nil {
			return nil, err
		}
		buf := make([]byte, header+int(t.info.Size))
		copy(buf, name)
		binary.NativeEndian.PutUint32(buf[32:], t.info.Size)
		if err = getsockopt(fd, layout.level, getEntries, buf); err == nil {
			t.entries = buf[header:]
			return t, nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINVAL) { // another size by now
			break
		}
	}
	return nil, err
}

func getsockopt(fd, level, option int, buf []byte) error {
	n := uint32(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

var errXtable = errors.New("the kernel's answer is not as iptables has it")

// entry is the bytes of the entry at an offset, and the offset behind it.
func (t *xtable) entry(at uint32) (entry []byte, next uint32, err error) {
	if int(at)+t.layout.next+2 > len(t.entries) {
		return nil, 0, errXtable
	}
	size := uint32(binary.NativeEndian.Uint16(t.entries[int(at)+t.layout.next:]))
	if size < uint32(t.layout.next) || int(at+size) > len(t.entries) {
		return nil, 0, errXtable
	}
	return t.entries[at : at+size], at + size, nil
}

// drops tells whether the policy of a built-in chain is drop: the target of its last
// entry is a verdict, which the kernel keeps as -NF_DROP-1.
func (t *xtable) drops(hook int) (bool, error) {
	e, _, err := t.entry(t.info.Underflow[hook])
	if err != nil {
		return false, err
	}
	const verdict = 32 // behind struct xt_entry_target
	at := int(binary.NativeEndian.Uint16(e[t.layout.target:])) + verdict
	if at+4 > len(e) {
		return false, errXtable
	}
	return int32(binary.NativeEndian.Uint32(e[at:])) == -1, nil
}

// count counts the rules of a built-in chain that have some bytes in them, as of a comment.
func (t *xtable) count(hook int, want []byte) (n int, err error) {
	for at := t.info.Hook[hook]; at < t.info.Underflow[hook]; {
		e, next, err := t.entry(at)
		if err != nil {
			return 0, err
		}
		if bytes.Contains(e, want) {
			n++
		}
		at = next
	}
	return n, nil
}
