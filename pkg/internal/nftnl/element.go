package nftnl

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// Element is an element of one of a table's sets; Value only in maps. Where a key has
// several fields, each is padded to 4 bytes.
type Element struct {
	Set        string
	Key, Value []byte
	End        []byte // the last key of a range
	Comment    string // of an attachment's element: its hash
	// Lasting says that no attachment takes the element away: it is of a VXLAN device.
	Lasting bool
}

// Place is where the element is: two of one place are the same or clash.
func (e Element) Place() string { return e.Set + "\x00" + string(e.Key) + string(e.End) }

// place is what names the element to the kernel.
func (e Element) place() Element { return Element{Set: e.Set, Key: e.Key, End: e.End} }

// Content is the place and what is there.
func (e Element) Content() string { return e.Place() + string(e.Value) }

// Names tells whether one of the fields of the key is the name of an interface.
func (e Element) Names(ifName string) bool {
	name := Name(ifName)
	for field := range slices.Chunk(e.Key, len(name)) {
		if bytes.Equal(field, name) {
			return true
		}
	}
	return false
}

func (e Element) owner() string {
	if e.Comment == "" {
		return "the network"
	}
	return "attachment " + e.Comment
}

// Pick returns those of all that are, or are not, among the others by name.
func Pick(all, others []Element, name func(Element) string, among bool) (picked []Element) {
	names := make(map[string]bool, len(others))
	for _, e := range others {
		names[name(e)] = true
	}
	for _, e := range all {
		if names[name(e)] == among {
			picked = append(picked, e)
		}
	}
	return picked
}

// Name is an interface's name as nftables compares it.
func Name(name string) []byte {
	key := make([]byte, unix.IFNAMSIZ)
	copy(key, name)
	return key
}

// Join makes a key of several fields.
func Join(fields ...[]byte) []byte {
	key := make([]byte, 0, 48)
	for _, f := range fields {
		key = append(key, f...)
		for len(key)%4 != 0 {
			key = append(key, 0)
		}
	}
	return key
}

// put appends the set and elements of it (NFTA_SET_ELEM_LIST_*).
func (t *Table) put(r *netlink.Request, set string, all []Element) *netlink.Request {
	r.Text(unix.NFTA_SET_ELEM_LIST_TABLE, t.Name).Text(unix.NFTA_SET_ELEM_LIST_SET, set)
	value := func(data []byte) func() {
		return func() { r.Bytes(unix.NFTA_DATA_VALUE, data) }
	}
	return r.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
		for _, e := range all {
			r.Nest(unix.NFTA_LIST_ELEM, func() {
				r.Nest(unix.NFTA_SET_ELEM_KEY, value(e.Key))
				if e.End != nil {
					r.Nest(elementKeyEnd, value(e.End))
				}
				if e.Value != nil {
					r.Nest(unix.NFTA_SET_ELEM_DATA, value(e.Value))
				}
				if e.Comment != "" {
					r.Bytes(unix.NFTA_SET_ELEM_USERDATA, userComment(e.Comment))
				}
			})
		}
	})
}

// userComment is the comment as nft reads it from an element's user data: type 0
// (NFTNL_UDATA_SET_ELEM_COMMENT), length, text with its terminating zero.
func userComment(s string) []byte {
	return append(append([]byte{0, byte(len(s) + 1)}, s...), 0)
}

// CommentOf is the inverse, also for the user data of a rule (NFTNL_UDATA_RULE_COMMENT).
func CommentOf(data []byte) string {
	if len(data) < 2 || data[0] != 0 || len(data) < 2+int(data[1]) {
		return ""
	}
	return netlink.Text(data[2 : 2+int(data[1])])
}

// elementValue is the value of the one element in the answer; nil in a set.
func elementValue(m netlink.Message) []byte {
	return m.Find(HeaderLen, unix.NFTA_SET_ELEM_LIST_ELEMENTS, unix.NFTA_LIST_ELEM, unix.NFTA_SET_ELEM_DATA, unix.NFTA_DATA_VALUE)
}

func chainUsers(m netlink.Message) uint32 {
	v := m.Find(HeaderLen, unix.NFTA_CHAIN_USE)
	if len(v) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(v)
}
