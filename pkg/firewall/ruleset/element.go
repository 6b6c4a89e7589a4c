package ruleset

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
)

// Element is what the firewall holds for an attachment, as nft or iptables-save
// says it.
type Element struct {
	// In is the set or map of the table, or iptables' table.
	In   string `json:"in"`
	Text string `json:"element"`
}

// Elements finds the elements or rules that carry the attachment's hash. It runs nft
// or iptables-save.
func Elements(ctx context.Context, a *attach.Attachment) ([]Element, error) {
	rules := firewall.RulesOf(a)
	if rules == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if rules.Backend != firewall.IPTables {
		out, err := output(ctx, "nft", "-j", "list", "table", "inet", firewall.TableName)
		if err != nil {
			return nil, err
		}
		return nftElements([]byte(out), a.Hash())
	}
	var all []Element
	for _, program := range []string{"iptables-save", "ip6tables-save"} {
		out, err := output(ctx, program)
		if err != nil {
			return nil, err
		}
		all = append(all, savedRules(program, out, a.Hash())...)
	}
	return all, nil
}

// nftElements finds the elements with a comment (libnftables-json(5), set, map and
// element).
func nftElements(list []byte, comment string) ([]Element, error) {
	type set struct {
		Name string
		Elem []any
	}
	var table struct{ NFTables []struct{ Set, Map *set } }
	if err := json.Unmarshal(list, &table); err != nil {
		return nil, fmt.Errorf("decode what nft lists: %w", err)
	}
	var all []Element
	for _, o := range table.NFTables {
		for _, s := range []*set{o.Set, o.Map} {
			if s == nil {
				continue
			}
			for _, e := range s.Elem {
				key, value := e, ""
				if pair, ok := e.([]any); ok && len(pair) == 2 { // of a map
					key, value = pair[0], " : "+nftText(pair[1])
				}
				if outer, ok := key.(map[string]any); ok {
					if elem, ok := outer["elem"].(map[string]any); ok && elem["comment"] == comment {
						all = append(all, Element{s.Name, nftText(elem["val"]) + value})
					}
				}
			}
		}
	}
	return all, nil
}

// nftText is a value as nft writes it: the fields of a concatenation with dots between
// them.
func nftText(v any) string {
	if m, ok := v.(map[string]any); ok {
		if fields, ok := m["concat"].([]any); ok {
			words := make([]string, len(fields))
			for i, f := range fields {
				words[i] = nftText(f)
			}
			return strings.Join(words, " . ")
		}
	}
	return fmt.Sprint(v)
}

// savedRules finds the rules with a comment, as iptables-save(8) writes them.
func savedRules(program, out, comment string) []Element {
	var all []Element
	table := ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "*"); ok {
			table = strings.TrimSuffix(program, "-save") + " " + name
		}
		if strings.HasPrefix(line, "-A ") && strings.Contains(line, "--comment "+comment) {
			all = append(all, Element{table, line})
		}
	}
	return all
}
