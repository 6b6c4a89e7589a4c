package oci

import (
	"archive/tar"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
)

// Root is what a file system has: paths without the first slash, as "bin/busybox".
type Root struct {
	Dirs  []string          // beside those of the files
	Files map[string]string // each a copy of a file of this machine
	Texts map[string]string
	Links map[string]string // symbolic, with what they point to
}

// Layer is a root file system as a tar, the same for the same files.
func Layer(r Root) ([]byte, error) {
	a := newArchive()
	dirs := map[string]bool{".": true}
	for _, dir := range r.Dirs {
		if err := a.dir(dirs, path.Clean(dir)); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Files)) {
		data, err := os.ReadFile(r.Files[name])
		if err == nil {
			err = a.dir(dirs, path.Dir(name))
		}
		if err == nil {
			err = a.file(name, 0o755, data)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Links)) {
		err := a.dir(dirs, path.Dir(name))
		if err == nil {
			err = a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: r.Links[name]})
		}
		if err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Texts)) {
		err := a.dir(dirs, path.Dir(name))
		if err == nil {
			err = a.file(name, 0o644, []byte(r.Texts[name]))
		}
		if err != nil {
			return nil, err
		}
	}
	return a.bytes()
}

// dir adds a folder and those above it. The last one of a path that has "tmp" for its name
// is everybody's.
func (a *archive) dir(have map[string]bool, dir string) error {
	if have[dir] {
		return nil
	}
	if err := a.dir(have, path.Dir(dir)); err != nil {
		return err
	}
	have[dir] = true
	mode := int64(0o755)
	if strings.HasSuffix(dir, "tmp") {
		mode = 0o1777
	}
	return a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: mode})
}
