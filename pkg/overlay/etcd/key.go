package etcd

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/berth-cni/berth/pkg/overlay"
)

// The families of keys, behind the prefix.
const (
	networks = "networks/"
	vnis     = "vnis/"
	nodes    = "nodes/"
	blocks   = "blocks/"
	alive    = "alive/"
	missed   = "missed/"
	left     = "left/"

	removedNetworks = "removed/networks/"
	removedNodes    = "removed/nodes/"

	incarnation = "incarnation" // a key, no family
)

const (
	maxValue = 64 << 10 // bytes; a value of ours has some hundreds
	maxText  = 512      // bytes of foreign text that an error repeats
)

func (s *Store) networkKey(name string) string { return s.o.Prefix + networks + name }
func (s *Store) vniKey(vni int) string         { return s.o.Prefix + vnis + strconv.Itoa(vni) }
func (s *Store) nodeKey(name string) string    { return s.o.Prefix + nodes + name }
func (s *Store) aliveKey(name string) string   { return s.o.Prefix + alive + name }
func (s *Store) missedKey(name string) string  { return s.o.Prefix + missed + name }

func (s *Store) leftKey(name string) string { return s.o.Prefix + left + name }

func (s *Store) incarnationKey() string { return s.o.Prefix + incarnation }

func (s *Store) removedKey(k overlay.RemovalKey) string {
	if k.Node == "" {
		return s.o.Prefix + removedNetworks + k.ID
	}
	return s.o.Prefix + removedNodes + k.Node + "/" + k.ID
}

// blocksOf is what the keys of a network's blocks begin with.
func (s *Store) blocksOf(network string) string { return s.o.Prefix + blocks + network + "/" }

func (s *Store) blockKey(k overlay.BlockKey) string {
	return s.blocksOf(k.Network) + strings.Replace(k.Prefix.String(), "/", "-", 1)
}

// parseBlockKey is the inverse of blockKey, for what follows the family's name.
func parseBlockKey(rest string) (overlay.BlockKey, error) {
	network, text, ok := strings.Cut(rest, "/")
	at := strings.LastIndexByte(text, '-')
	if !ok || at < 0 {
		return overlay.BlockKey{}, errors.New("want a key such as blocks/blue/10.42.3.0-24")
	}
	prefix, err := netip.ParsePrefix(text[:at] + "/" + text[at+1:])
	if err != nil {
		return overlay.BlockKey{}, err
	}
	k := overlay.BlockKey{Network: network, Prefix: prefix}
	if err := overlay.ValidName(network); err != nil {
		return k, fmt.Errorf("network: %w", err)
	}
	if want := strings.Replace(prefix.Masked().String(), "/", "-", 1); text != want {
		return k, fmt.Errorf("want the key to end in %s", want)
	}
	return k, nil
}

// family splits a key, without the prefix, into one of the families and the rest;
// "" when it is of none.
func family(key string) (string, string) {
	for _, f := range []string{networks, vnis, nodes, blocks, alive, missed, left, removedNetworks, removedNodes, incarnation} {
		if rest, ok := strings.CutPrefix(key, f); ok {
			return f, rest
		}
	}
	return "", key
}

// decode puts what a key, without the prefix, holds into the update. The error says
// why nobody can use it.
func decode(u *overlay.Update, key string, kv *mvccpb.KeyValue) error {
	value := kv.Value
	if len(value) > maxValue {
		return fmt.Errorf("has %d bytes, want %d at most", len(value), maxValue)
	}
	switch f, rest := family(key); f {
	case networks:
		n, err := unmarshal[overlay.Network](value, rest, func(n *overlay.Network) string { return n.Name })
		if err == nil && (n.ID == "" || len(n.ID) > 128) {
			err = fmt.Errorf("id: want 1 to 128 bytes, got %d", len(n.ID))
		}
		if err != nil {
			return err
		}
		n.Revision = kv.CreateRevision
		u.Networks = append(u.Networks, n)
	case vnis:
		return checkVNI(rest, string(value))
	case nodes:
		n, err := unmarshal[overlay.Node](value, rest, func(n *overlay.Node) string { return n.Name })
		if err != nil {
			return err
		}
		u.Nodes = append(u.Nodes, n)
	case blocks:
		k, err := parseBlockKey(rest)
		if err != nil {
			return err
		}
		b, err := unmarshal[overlay.Block](value, rest, nil)
		if err != nil {
			return err
		}
		if b.Key() != k {
			return fmt.Errorf("holds the block %s of network %q", b.Prefix, b.Network)
		}
		u.Blocks = append(u.Blocks, b)
	case alive:
		a, err := unmarshal[overlay.Alive](value, rest, func(a *overlay.Alive) string { return a.Node })
		if err != nil {
			return err
		}
		u.Alive = append(u.Alive, a)
	default:
		return decodeHistory(u, f, rest, value)
	}
	return nil
}

// decodeHistory is [decode] for what tells how the store came to be what it is.
func decodeHistory(u *overlay.Update, family, rest string, value []byte) error {
	switch family {
	case missed:
		m, err := unmarshal(value, rest, func(m *overlay.Missed) string { return m.Node })
		if err != nil {
			return err
		}
		u.Missed = append(u.Missed, m)
	case left:
		l, err := unmarshal(value, rest, func(l *overlay.Left) string { return l.Node })
		if err != nil {
			return err
		}
		u.Left = append(u.Left, l)
	case removedNetworks, removedNodes:
		r, err := unmarshal[overlay.Removal](value, "", nil)
		if err != nil {
			return err
		}
		if k, err := parseRemovedKey(family, rest); err != nil || r.Key() != k {
			return errors.Join(err, fmt.Errorf("holds the removal of %q, %q", r.Network+r.Node, r.ID))
		}
		u.Removed = append(u.Removed, r)
	case incarnation:
		if rest == "" && (len(value) == 0 || len(value) > 128) {
			return fmt.Errorf("want 1 to 128 bytes, got %d", len(value))
		}
		if rest == "" {
			u.History.Incarnation = string(value)
		}
	}
	return nil
}

// parseRemovedKey is the inverse of removedKey, for what follows the family's name.
func parseRemovedKey(family, rest string) (overlay.RemovalKey, error) {
	if family == removedNetworks {
		return overlay.RemovalKey{ID: rest}, nil
	}
	node, token, ok := strings.Cut(rest, "/")
	if !ok {
		return overlay.RemovalKey{}, errors.New("want a key such as removed/nodes/host1/TOKEN")
	}
	return overlay.RemovalKey{Node: node, ID: token}, nil
}

// unmarshal decodes a value and validates it. named returns the name that the value
// has, which has to be the key's.
func unmarshal[T any](value []byte, key string, named func(*T) string) (T, error) {
	var v T
	if err := json.Unmarshal(value, &v); err != nil {
		return v, err
	}
	if checked, ok := any(&v).(interface{ Validate() error }); ok {
		if err := checked.Validate(); err != nil {
			return v, err
		}
	}
	if named != nil && named(&v) != key {
		return v, fmt.Errorf("holds %q", named(&v))
	}
	return v, nil
}

func checkVNI(rest, name string) error {
	vni, err := strconv.Atoi(rest)
	if err != nil || vni < 1 || vni > overlay.MaxVNI || strconv.Itoa(vni) != rest {
		return fmt.Errorf("want a VNI, 1 to %d", overlay.MaxVNI)
	}
	return overlay.ValidName(name)
}

// gone puts what a key, without the prefix, does not hold any more into the update.
func gone(u *overlay.Update, key string) {
	switch f, rest := family(key); f {
	case networks:
		u.GoneNetworks = append(u.GoneNetworks, rest)
	case nodes:
		u.GoneNodes = append(u.GoneNodes, rest)
	case blocks:
		if k, err := parseBlockKey(rest); err == nil {
			u.GoneBlocks = append(u.GoneBlocks, k)
		}
	case alive:
		u.GoneAlive = append(u.GoneAlive, rest)
	case missed:
		u.GoneMissed = append(u.GoneMissed, rest)
	case left:
		u.GoneLeft = append(u.GoneLeft, rest)
	case removedNetworks, removedNodes:
		if k, err := parseRemovedKey(f, rest); err == nil {
			u.GoneRemoved = append(u.GoneRemoved, k)
		}
	}
}

// badKey is how people are told of a key and its error: on one line, not too long.
func badKey(key string, err error) overlay.BadKey {
	text := strings.ReplaceAll(clip(err.Error()), "\n", "; ")
	return overlay.BadKey{Key: printable(key), Err: errors.New(text)}
}

// printable is the key as it is, unless that could confuse a terminal or a log.
func printable(key string) string {
	if quoted := strconv.Quote(key); quoted != `"`+key+`"` {
		key = quoted
	}
	return clip(key)
}

func clip(text string) string {
	if len(text) > maxText {
		return text[:maxText] + "..."
	}
	return text
}
