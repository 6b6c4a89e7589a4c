package main

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/spf13/pflag"
)

// networkSettings say where this host's networks are.
type networkSettings struct {
	netDir string
	binDir string // several, as a PATH has them
	pools  []conflist.Pool
}

// netFlags are what every command needs that looks at the networks of this host.
func (s *settings) netFlags(f *pflag.FlagSet) {
	s.netDirFlag(f)
	addFlag(f, text(&s.binDir, "folder", pluginDir(), nil), "bin-dir", "the CNI plugins of this host")
}

// netDirFlag is the one of them that says where the networks are.
func (s *settings) netDirFlag(f *pflag.FlagSet) {
	dir := cmp.Or(os.Getenv(conflist.Env), conflist.Default)
	addFlag(f, text(&s.netDir, "folder", dir, nil), "net-dir", "the CNI configurations of this host")
}

// poolFlag is what makes networks without a subnet.
func (s *settings) poolFlag(f *pflag.FlagSet) {
	addFlag(f, addressPools(&s.pools), "address-pools", "where a network without --subnet gets one from, PREFIX or PREFIX:SIZE each")
}

// pluginDir is the folder of the plugins: as cnitool has it, else beside this program,
// else where runtimes look.
func pluginDir() string {
	if path := os.Getenv("CNI_PATH"); path != "" {
		return path
	}
	if self, err := os.Executable(); err == nil {
		dir := filepath.Dir(self)
		if _, err := os.Stat(filepath.Join(dir, conflist.Bridge)); err == nil {
			return dir
		}
	}
	return "/opt/cni/bin"
}

// pluginDirs are that, and where distributions and runtimes put plugins, each once.
func pluginDirs() []string {
	dirs := filepath.SplitList(pluginDir())
	for _, dir := range []string{"/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"} {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// addressPools are pools, separated by commas; the first that is given replaces the
// default ones.
func addressPools(to *[]conflist.Pool) pflag.Value {
	given := false
	v := &value{kind: "prefix:size,...", get: func() string {
		words := make([]string, len(*to))
		for i, p := range *to {
			words[i] = p.String()
		}
		return strings.Join(words, ",")
	}}
	v.set = func(s string) error {
		var more []conflist.Pool
		for word := range strings.SplitSeq(s, ",") {
			p, err := conflist.ParsePool(word)
			if err != nil {
				return err
			}
			more = append(more, p)
		}
		if !given {
			*to, given = nil, true
		}
		*to = append(*to, more...)
		return nil
	}
	*to = conflist.DefaultPools()
	return v
}

// addShort is addFlag of one that has a letter, too.
func addShort(flags *pflag.FlagSet, v pflag.Value, name, letter, usage string) {
	flags.VarPF(v, name, letter, usage).NoOptDefVal = v.(*value).bare
}
