package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// iface is an interface as `ip -j addr` prints it.
type iface struct {
	Index  int    `json:"ifindex"`
	Peer   int    `json:"link_index"` // of a veth: its other end, in that one's namespace
	Name   string `json:"ifname"`
	MAC    string `json:"address"`
	Master string `json:"master"`
	Addrs  []struct {
		Local  string `json:"local"`
		Prefix int    `json:"prefixlen"`
		Scope  string `json:"scope"`
	} `json:"addr_info"`
}

// addresses are those that are not link-local, with their lengths.
func (i iface) addresses() []string {
	var all []string
	for _, a := range i.Addrs {
		if a.Scope == "global" {
			all = append(all, fmt.Sprintf("%s/%d", a.Local, a.Prefix))
		}
	}
	return all
}

// interfaces are all of a machine's, by name.
func (m machine) interfaces() (map[string]iface, error) {
	var list []iface
	if err := m.decode(&list, "ip", "-j", "addr"); err != nil {
		return nil, err
	}
	all := map[string]iface{}
	for _, i := range list {
		all[i.Name] = i
	}
	return all, nil
}

// gateways are those of the machine's default routes, IPv4 first.
func (m machine) gateways() ([]string, error) {
	var all []string
	for _, family := range []string{"-4", "-6"} {
		var routes []struct{ Gateway string }
		if err := m.decode(&routes, "ip", "-j", family, "route", "show", "default"); err != nil {
			return nil, err
		}
		for _, r := range routes {
			all = append(all, r.Gateway)
		}
	}
	return all, nil
}

// decode reads what a program prints as JSON. Nothing printed is nothing there.
func (m machine) decode(into any, name string, args ...string) error {
	out, err := m.output(name, args...)
	if err != nil || strings.TrimSpace(out) == "" {
		return err
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("read what %s prints: %w", name, err)
	}
	return nil
}

// table is the nftables table inet berth.
type table struct {
	rules int
	sets  map[string][]element
}

// element is an element of a set or map; its comment says whose it is.
type element struct{ text, comment string }

// table reads the table. An error when there is none.
func (m machine) table() (*table, error) {
	var list struct {
		Nftables []struct {
			Rule *json.RawMessage
			Set  *nftSet
			Map  *nftSet
		}
	}
	if err := m.decode(&list, "nft", "-j", "list", "table", "inet", "berth"); err != nil {
		return nil, err
	}
	t := &table{sets: map[string][]element{}}
	for _, o := range list.Nftables {
		if o.Rule != nil {
			t.rules++
		}
		for _, s := range []*nftSet{o.Set, o.Map} {
			if s != nil {
				t.sets[s.Name] = s.elements()
			}
		}
	}
	return t, nil
}

type nftSet struct {
	Name string
	Elem []any
}

// elements are in nft's words, sorted: "tcp . 8080 : 10.88.0.3 . 80".
func (s nftSet) elements() []element {
	var all []element
	for _, e := range s.Elem {
		all = append(all, element{nftText(e), nftComment(e)})
	}
	slices.SortFunc(all, func(a, b element) int { return strings.Compare(a.text, b.text) })
	return all
}

// nftText prints a value of libnftables-json(5): a word, a number, a concatenation,
// an element with a comment, or a map's key and value.
func nftText(v any) string {
	switch v := v.(type) {
	case []any:
		var parts []string
		for _, p := range v {
			parts = append(parts, nftText(p))
		}
		return strings.Join(parts, " : ")
	case map[string]any:
		if e, ok := v["elem"].(map[string]any); ok {
			return nftText(e["val"])
		}
		if c, ok := v["concat"].([]any); ok {
			var parts []string
			for _, p := range c {
				parts = append(parts, nftText(p))
			}
			return strings.Join(parts, " . ")
		}
	}
	return fmt.Sprint(v)
}

func nftComment(v any) string {
	if list, ok := v.([]any); ok && len(list) > 0 {
		v = list[0] // a map's element: the comment is at the key
	}
	if m, ok := v.(map[string]any); ok {
		if e, ok := m["elem"].(map[string]any); ok {
			c, _ := e["comment"].(string)
			return c
		}
	}
	return ""
}

// records are the keys in Berth's store, by bucket.
func (l *lab) records() (map[string][]string, error) {
	seen, err := l.box.Look("state")
	all := map[string][]string{}
	for _, line := range seen["state"] {
		bucket, key, _ := strings.Cut(line, " ")
		all[bucket] = append(all[bucket], key)
	}
	return all, err
}

func sorted(words ...string) []string {
	words = slices.Clone(words)
	sort.Strings(words)
	return words
}
