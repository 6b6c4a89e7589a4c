package names

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/schema"
)

// The labels of args.cni that name a container (CONVENTIONS.md has no keys of its
// own).
const (
	labelName     = "berth.name"
	labelAlias    = "berth.alias"
	labelHostname = "berth.hostname"
)

// Source is where a container's names come from: what a runtime gives with ADD.
type Source struct {
	Network   string
	Container string            // CNI_CONTAINERID
	Args      map[string]string // CNI_ARGS
	Aliases   json.RawMessage   // runtimeConfig.aliases; nil or null: none
	CNI       json.RawMessage   // args.cni; nil or null: none
}

// Set is what a container is called, and what it calls others.
type Set struct {
	Names []string          // lower case, the container's own first
	Links map[string]string // for [Entry.Links]
	// Left are names that the runtime made and DNS cannot carry, each with the reason:
	// for a warning.
	Left []string
}

// cniArgs is the part of args.cni that is about names.
type cniArgs struct {
	Hostname string   `json:"hostname"`
	Aliases  []string `json:"aliases"`
	Links    []string `json:"links"`
	Labels   []struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	} `json:"labels"`
}

// FromArgs returns a container's names: its name (CNI_ARGS K8S_POD_NAME, or the label
// berth.name), hostname, aliases and short ID, in that order.
//
// What a person asked for, an alias, link or label, is an error when DNS cannot carry
// it: all of them together, each with its key. A name or ID that the runtime made is
// only left out.
func FromArgs(s Source) (Set, error) {
	var args cniArgs
	if len(s.CNI) > 0 {
		if err := schema.CNIArgs.Decode("args.cni", s.CNI, &args); err != nil {
			return Set{}, err
		}
	}
	c := &collector{}
	c.own(s, args)
	aliases, err := s.aliases()
	if err != nil {
		return Set{}, err
	}
	c.wanted("runtimeConfig.aliases", aliases...)
	c.wanted("args.cni.aliases", args.Aliases...)
	c.labels(args, labelAlias)
	c.runtimes("container ID", attach.ShortID(s.Container))
	for _, l := range args.Links {
		c.link(l)
	}
	return c.Set, errors.Join(c.problems...)
}

// aliases reads the capability: a list, as CONVENTIONS.md has it, or a list for each
// network, as podman sends it.
func (s Source) aliases() ([]string, error) {
	var list []string
	if json.Unmarshal(s.Aliases, &list) == nil {
		return list, nil
	}
	var byNetwork map[string][]string
	if len(s.Aliases) > 0 && json.Unmarshal(s.Aliases, &byNetwork) != nil {
		return nil, &schema.TypeError{Key: "runtimeConfig.aliases", Value: string(s.Aliases), Want: "a list of names, or such a list for each network"}
	}
	return byNetwork[s.Network], nil
}

// collector gathers names, each once.
type collector struct {
	Set
	problems []error
}

func (c *collector) add(name string) {
	if name = strings.ToLower(name); !slices.Contains(c.Names, name) {
		c.Names = append(c.Names, name)
	}
}

// relative is a name as people write it: without the dot behind, by which a resolver's
// search list is told to leave it alone.
func relative(name string) string { return strings.TrimSuffix(name, ".") }

// wanted adds names that a person asked for.
func (c *collector) wanted(key string, names ...string) {
	for _, name := range names {
		if err := Valid(relative(name)); err != nil {
			c.problems = append(c.problems, fmt.Errorf("%s: %q: %w", key, name, err))
			continue
		}
		c.add(relative(name))
	}
}

// runtimes adds a name that the runtime made, if there is one.
func (c *collector) runtimes(what, name string) {
	if name == "" {
		return
	}
	if name = relative(name); Valid(name) != nil {
		c.Left = append(c.Left, fmt.Sprintf("%s %q is no name in DNS: %v", what, name, Valid(name)))
		return
	}
	c.add(name)
}

func (c *collector) labels(args cniArgs, key string) {
	for _, l := range args.Labels {
		if l.Key == key {
			c.wanted("args.cni.labels "+key, l.Value)
		}
	}
}

// link reads CONTAINER:ALIAS, or CONTAINER, which is its own alias. As with Docker
// both names work.
func (c *collector) link(s string) {
	target, alias, both := strings.Cut(s, ":")
	if !both {
		alias = target
	}
	alias = relative(alias)
	if target == "" {
		c.problems = append(c.problems, fmt.Errorf("args.cni.links: %q: want CONTAINER:ALIAS", s))
		return
	}
	if err := Valid(alias); err != nil {
		c.problems = append(c.problems, fmt.Errorf("args.cni.links: %q: alias %q: %w", s, alias, err))
		return
	}
	if c.Links == nil {
		c.Links = map[string]string{}
	}
	c.Links[strings.ToLower(alias)] = target
	if own := strings.ToLower(target); Valid(target) == nil && c.Links[own] == "" {
		c.Links[own] = target
	}
}
