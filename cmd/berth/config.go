package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// defaultConfig is the configuration file of every command, if it is there.
const defaultConfig = "/etc/berth/agent.yaml"

// load reads the configuration file into the flags that the command has and the
// command line did not give, then checks the settings together.
func (s *settings) load(c *cobra.Command) error {
	flags := c.Flags()
	if flags.Lookup("store") == nil && flags.Lookup("net-dir") == nil && flags.Lookup("state-dir") == nil {
		return nil // nothing of it is for this command
	}
	path := s.config
	if path == "" {
		path = defaultConfig
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && s.config == "" {
		err = nil
	}
	if err != nil {
		return usageError{fmt.Errorf("read configuration: %w", err)}
	}
	if err := s.apply(path, data, flags); err != nil {
		return usageError{err}
	}
	for _, name := range []string{"store", "etcd-endpoints", "peers-file"} {
		s.named = s.named || flags.Changed(name) || s.origin[name] != ""
	}
	return s.check(func(name string) bool { return flags.Lookup(name) != nil })
}

// checkStateDir refuses a folder of records that somebody names and that is not there: it would
// look like a host without containers. The agent makes it.
func (s *settings) checkStateDir(c *cobra.Command) error {
	f := c.Flags().Lookup("state-dir")
	if f == nil || !f.Changed || c.Name() == "agent" {
		return nil
	}
	if _, err := os.Stat(s.stateDir); err != nil {
		return usageError{fmt.Errorf("--state-dir: %w", err)}
	}
	return nil
}

// apply sets flags from a file in YAML: a mapping from names of flags to values, a
// list where the flag takes several. All that is wrong is in the error, each with
// its line, key and value, and what is allowed.
func (s *settings) apply(path string, data []byte, flags *pflag.FlagSet) error {
	pairs, err := pairsOf(path, data)
	if err != nil {
		return err
	}
	every := pflag.NewFlagSet("", pflag.ContinueOnError) // of the agent: the file is for all commands
	(&settings{}).agentFlags(every)
	(&settings{}).netFlags(every)
	(&settings{}).poolFlag(every)
	s.origin = map[string]string{}
	var errs []error
	for _, p := range pairs {
		where := fmt.Sprintf("%s:%d: %s", path, p.line, p.key)
		known := every.Lookup(p.key)
		switch {
		case known == nil:
			errs = append(errs, fmt.Errorf("%s: no such key%s", where, closest(p.key, every)))
			continue
		case s.origin[p.key] != "":
			errs = append(errs, fmt.Errorf("%s: is in the file twice", where))
			continue
		case p.wrong != "":
			errs = append(errs, fmt.Errorf("%s: %s", where, p.wrong))
			continue
		}
		s.origin[p.key] = where
		mine := flags.Lookup(p.key)
		if mine == nil || mine.Changed {
			mine = known // for its own sake: a wrong value is wrong for all commands
		}
		if err := mine.Value.Set(p.value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", where, p.value, err))
		}
	}
	for key := range s.origin {
		if f := flags.Lookup(key); f != nil && f.Changed {
			delete(s.origin, key)
		}
	}
	return errors.Join(errs...)
}

// pair is a key of the file and its value, as a flag would get it.
type pair struct {
	key, value string
	line       int
	wrong      string
}

func pairsOf(path string, data []byte) ([]pair, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(doc.Content) == 0 {
		return nil, nil // empty, or comments only
	}
	top := doc.Content[0]
	if top.Kind == yaml.ScalarNode && top.Tag == "!!null" {
		return nil, nil
	}
	if top.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: want 'key: value' lines", path, top.Line)
	}
	var pairs []pair
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, val := top.Content[i], top.Content[i+1]
		p := pair{key: key.Value, line: key.Line}
		p.value, p.wrong = scalar(val)
		pairs = append(pairs, p)
	}
	return pairs, nil
}

// scalar is a value as a flag would get it: of a list, the texts with commas
// between them.
func scalar(v *yaml.Node) (text, wrong string) {
	switch v.Kind {
	case yaml.ScalarNode:
		if v.Tag == "!!null" {
			return "", "has no value: want one, or the key left out"
		}
		return v.Value, ""
	case yaml.SequenceNode:
		var all []string
		for _, e := range v.Content {
			if e.Kind != yaml.ScalarNode {
				return "", "want a list of texts"
			}
			all = append(all, e.Value)
		}
		return strings.Join(all, ","), ""
	}
	return "", "want a text, a number, true, false or a list of texts"
}

// closest suggests a key for one that is not known.
func closest(key string, flags *pflag.FlagSet) string {
	var near, all []string
	flags.VisitAll(func(f *pflag.Flag) {
		all = append(all, f.Name)
		if strings.Contains(f.Name, key) || strings.Contains(key, f.Name) || strings.EqualFold(strings.NewReplacer("_", "-").Replace(key), f.Name) {
			near = append(near, f.Name)
		}
	})
	if len(near) > 0 {
		return ": " + strings.Join(near, " or ") + "?"
	}
	slices.Sort(all)
	return ": want one of " + strings.Join(all, ", ")
}
