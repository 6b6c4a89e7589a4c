package connect

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/inspect"
	"github.com/berth-cni/berth/pkg/names"
)

// linked finds the containers that it is to be linked to, and how it is to know those that
// have no such name. on are the attachments to the network.
func (o *Options) linked(on []*attach.Attachment) error {
	for _, l := range o.Links {
		word, alias, _ := strings.Cut(l, ":")
		id, err := inspect.Find(on, word)
		if err != nil {
			return fmt.Errorf("link %s: %w", l, err)
		}
		i := slices.IndexFunc(on, func(a *attach.Attachment) bool { return a.Container == id })
		if i < 0 {
			return fmt.Errorf("link %s: %s is not on the network", l, word)
		}
		if alias == "" {
			alias = word
		}
		called := names.Registered(on[i])
		if slices.Contains(called, strings.ToLower(alias)) {
			continue
		}
		if err := names.Valid(alias); err != nil {
			return fmt.Errorf("link %s: %s: %w", l, alias, err)
		}
		if !slices.Contains(called, strings.ToLower(word)) {
			word = id // a name stands for who comes back under it, too
		}
		o.aliases = append(o.aliases, word+":"+alias)
	}
	return nil
}

// addLinks puts the aliases of links into a plugin's configuration, beside those that it has.
func (o *Options) addLinks(conf map[string]any) error {
	if len(o.aliases) == 0 {
		return nil
	}
	at := conf
	for _, section := range []string{"args", "cni"} {
		if at[section] == nil {
			at[section] = map[string]any{}
		}
		inner, ok := at[section].(map[string]any)
		if !ok {
			return fmt.Errorf("the network's configuration has %s %v: want an object", section, at[section])
		}
		at = inner
	}
	links, _ := at["links"].([]any) // the plugin says what is wrong with others
	for _, l := range o.aliases {
		links = append(links, l)
	}
	at["links"] = links
	return nil
}

// ifName is the name that the interface is to have.
func (c *container) ifName(asked string) (string, error) {
	if asked == "" {
		return c.freeName()
	}
	if err := cni.ValidIfName(asked); err != nil {
		return "", fmt.Errorf("interface name %s: %w", asked, err)
	}
	if slices.ContainsFunc(c.records, func(a *attach.Attachment) bool { return a.IfName == asked }) {
		return "", fmt.Errorf("interface name %s: the container has one of that name", asked)
	}
	return asked, nil
}
