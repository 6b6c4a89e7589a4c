package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/network"
	"github.com/spf13/cobra"
)

// networkCalled finds the network that a word of a person names: by its name, its ID or the
// start of that; nil when there is none, an error when there are several.
func networkCalled(all []shownNetwork, word string) (shownNetwork, error) {
	if i := slices.IndexFunc(all, func(v shownNetwork) bool { return v.line().name == word }); i >= 0 {
		return all[i], nil
	}
	if !hexadecimal(word) {
		return nil, nil
	}
	var found []shownNetwork
	var names []string
	for _, v := range all {
		if strings.HasPrefix(v.line().id, word) {
			found, names = append(found, v), append(names, v.line().name)
		}
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("%s: the IDs of %d networks begin so: %s", word, len(found), host.Some(names))
}

// networkNames are the names of the networks that words of a person name, of those that look
// finds. What names none is as it was.
func networkNames(ctx context.Context, look func(context.Context) (*network.Networks, error), words []string) ([]string, error) {
	if !slices.ContainsFunc(words, hexadecimal) {
		return words, nil // IDs are not looked for where there can be none
	}
	n, err := look(ctx)
	if err != nil {
		return nil, err
	}
	all := shown(n)
	names := slices.Clone(words)
	for i, word := range words {
		switch v, err := networkCalled(all, word); {
		case err != nil:
			return nil, err
		case v != nil:
			names[i] = v.line().name
		}
	}
	return names, nil
}

// networkName is networkNames of one, of this host's networks.
func (p *program) networkName(ctx context.Context, word string) (string, error) {
	names, err := networkNames(ctx, p.networks().Local, []string{word})
	if err != nil {
		return "", err
	}
	return names[0], nil
}

// knownNetworks are the names of the networks that words name, of which this host has a
// conflist, a record or a memory; an error where it has none of them.
func (p *program) knownNetworks(c *cobra.Command, words []string) ([]string, error) {
	if len(words) == 0 {
		return nil, nil
	}
	p.settings.netDir = netDirOf(c)
	n, err := p.networks().Local(c.Context())
	if err != nil {
		return nil, err
	}
	all := shown(n)
	var names []string
	var errs []error
	for _, word := range words {
		switch v, err := networkCalled(all, word); {
		case err != nil:
			errs = append(errs, err)
		case v != nil:
			names = append(names, v.line().name)
		case n.Remembers(word):
			names = append(names, word)
		default:
			errs = append(errs, fmt.Errorf("network %s: this host knows none of that name", word))
		}
	}
	return names, errors.Join(errs...)
}
