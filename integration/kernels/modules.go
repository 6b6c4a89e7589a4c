package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// closure are the files of modules and of those that they need, in the order in which
// they are loaded. What the kernel has built in has no file. dir is the folder of the
// kernel's modules, with modules.dep (modules.dep(5)).
func closure(dir string, names ...string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, err
	}
	builtin, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	needs := map[string][]string{} // by a module's name: its file, and those that it needs
	for line := range strings.Lines(string(data)) {
		file, rest, _ := strings.Cut(line, ":")
		needs[moduleName(file)] = append([]string{file}, strings.Fields(rest)...)
	}
	for line := range strings.Lines(string(builtin)) {
		needs[moduleName(strings.TrimSpace(line))] = nil
	}
	var all []string
	seen := map[string]bool{}
	for _, name := range names {
		files, ok := needs[name]
		if !ok {
			return nil, fmt.Errorf("the kernel of %s has no module %s", dir, name)
		}
		for i := len(files) - 1; i >= 0; i-- { // the last is needed first
			if f := filepath.Join(dir, files[i]); !seen[f] {
				seen[f] = true
				all = append(all, f)
			}
		}
	}
	return all, nil
}

// moduleName is that of a module's file, as "kernel/fs/9p/9p.ko.xz".
func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}
