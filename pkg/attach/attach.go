// Package attach is the life cycle of an attachment: one interface of one
// container on one network.
//
// An attachment is a record and an ordered list of steps. The record is written
// before anything is made and dropped after everything is removed, so that a
// process killed at any instruction leaves either nothing, or a record from
// which [Store.Del] or [Store.GC] removes the rest. A [Step] adds, deletes and
// checks one thing; ADD with its rollback, DEL, CHECK, GC and reload are loops
// over steps, written once, here.
package attach

import (
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"strings"
	"time"
)

// Key names an attachment, as CNI does (SPEC 1.1.0, section 2): by network name,
// container ID and interface name.
type Key struct {
	Network   string `json:"network"`
	Container string `json:"container"`
	IfName    string `json:"ifname"`
	// Role tells apart the records that several plugins of one chain keep for
	// one interface: empty for the plugin that made the interface.
	Role Role `json:"role,omitempty"`
}

// Role is what a record stands for.
type Role string

// The roles.
const (
	Main    Role = ""      // the interface itself
	IPAM    Role = "ipam"  // only addresses, leased for another main plugin
	Chained Role = "chain" // only what was added to an earlier plugin's interface
)

// hashLen is the length of [Key.Hash]. With a four-letter prefix it fills an
// interface name (IFNAMSIZ is 16, with the terminating zero).
const hashLen = 11

var hashEncoding = base32.HexEncoding.WithPadding(base32.NoPadding)

// Hash is a short name for the key (55 bits, [0-9a-v]). It is part of every host
// interface name and the comment of every firewall element of the attachment.
//
// FNV-1a is not made against adversaries. Nobody chooses these names to harm: they
// are the administrator's and the runtime's. Two that are alike would be an error
// at the second ADD.
func (k Key) Hash() string {
	if k.Role == Lost {
		return k.Container
	}
	return strings.ToLower(hashEncoding.EncodeToString(Digest(k.bytes()))[:hashLen])
}

// IsHash tells whether a text can be [Key.Hash].
func IsHash(s string) bool {
	return len(s) == hashLen && strings.Trim(s, "0123456789abcdefghijklmnopqrstuv") == ""
}

// Digest is the 128-bit FNV-1a hash of some bytes, for names and MACs.
func Digest(b []byte) []byte {
	h := fnv.New128a()
	h.Write(b)
	return h.Sum(nil)
}

// HostIfName is the name of the host's end of the attachment's interface.
func (k Key) HostIfName() string { return "veth" + k.Hash() }

// Group is the number of the interface group (IFLA_GROUP) of the host's ends of a network's
// interfaces, where these are on no bridge. Bit 30 is set, so that it is none of the small
// numbers that administrators give, nor the kernel's default 0.
func Group(network string) uint32 {
	return firstGroup | binary.BigEndian.Uint32(Digest([]byte("group\x00"+network)))&(firstGroup-1)
}

const firstGroup = 1 << 30

// IsGroup tells whether a number can be [Group].
func IsGroup(number uint32) bool { return number>>30 == 1 }

func (k Key) String() string {
	if k.Role == Lost {
		return fmt.Sprintf("a container behind veth%s that is not known (network %s, %s)", k.Container, k.Network, k.IfName)
	}
	return fmt.Sprintf("container %s (network %s, %s)", k.Container, k.Network, k.IfName)
}

// bytes is the key's place in the store. None of its parts can contain a zero
// byte: CNI's names are letters, digits and ".-_".
func (k Key) bytes() []byte {
	s := k.Network + "\x00" + k.Container + "\x00" + k.IfName
	if k.Role != Main {
		s += "\x00" + string(k.Role)
	}
	return []byte(s)
}

func parseKey(b []byte) Key {
	p := strings.SplitN(string(b), "\x00", 4)
	for len(p) < 4 {
		p = append(p, "")
	}
	return Key{p[0], p[1], p[2], Role(p[3])}
}

// Attachment is what a container was given on a network: the record.
type Attachment struct {
	Key
	Plugin    string            `json:"plugin"`            // the binary that made it: "bridge"
	Netns     string            `json:"netns"`             // path at ADD
	Cookie    uint64            `json:"cookie,omitempty"`  // SO_NETNS_COOKIE of that namespace (kernel 5.14), 0 if unknown
	MountNS   uint64            `json:"mountns,omitempty"` // inode of the mount namespace that Netns is a path of, 0 if unknown
	Created   time.Time         `json:"created"`
	Args      map[string]string `json:"args,omitempty"` // CNI_ARGS, for people: K8S_POD_NAME
	MAC       string            `json:"mac,omitempty"`  // of the container's interface
	Addresses []Address         `json:"addresses,omitempty"`
	Routes    []Route           `json:"routes,omitempty"`
	Leases    []netip.Addr      `json:"leases,omitempty"` // those of Addresses that the store leased
	// Sticky is the name that the store keeps Leases for when they are given back; empty: they
	// are kept for nobody.
	Sticky  string `json:"sticky,omitempty"`
	Ports   []Port `json:"ports,omitempty"`
	Waiting []Port `json:"waiting,omitempty"` // asked for, and published by another network of the container
	// Connected says that a person attached the container: its runtime does not know,
	// and will not ask for a DEL.
	Connected bool   `json:"connected,omitempty"`
	Steps     []Step `json:"-"` // stored beside, each with its kind

	// Deleting says that a DEL or a rollback is deleting the steps: nobody may add
	// anything for the attachment any more. Kept beside the record.
	Deleting bool `json:"-"`
}

// Address is an address of the container: the address itself with the length of
// its subnet's prefix, and the subnet's gateway (zero: none).
type Address struct {
	Prefix  netip.Prefix `json:"prefix"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
}

// Route is a route in the container (CNI SPEC 1.1.0, section 5). A zero Gateway
// stands for the gateway of the address of the same family. Zero numbers are the
// kernel's defaults.
type Route struct {
	Dst      netip.Prefix `json:"dst"`
	Gateway  netip.Addr   `json:"gw,omitzero"`
	MTU      int          `json:"mtu,omitempty"`
	AdvMSS   int          `json:"advmss,omitempty"`
	Priority int          `json:"priority,omitempty"`
	Table    *int         `json:"table,omitempty"`
	Scope    *int         `json:"scope,omitempty"`
}
