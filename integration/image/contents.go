package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	spec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Where things are in the image: the agent's own defaults.
const (
	program = "usr/local/bin/berth"
	plugins = "usr/local/lib/berth/"
	sbomDir = "usr/share/doc/berth/"
)

// file is one of the image.
type file struct {
	path string // without the first slash; with one at the end: a folder
	mode int64
	data []byte
	link string // where a symbolic link leads
}

// contents are the image's files and the SBOM, which is one of them. There is no shell and
// no C library.
func contents(root, built, version string) (files []file, sbom []byte, err error) {
	for _, dir := range []string{"usr/", "usr/local/", "usr/local/bin/", "usr/local/lib/", plugins, "usr/share/", "usr/share/doc/", sbomDir, "run/", "var/", "etc/"} {
		files = append(files, file{path: dir, mode: 0o755})
	}
	files = append(files,
		file{path: "tmp/", mode: 0o1777},
		// Runtimes name namespaces by /var/run/netns, and /run/netns is what is mounted.
		file{path: "var/run", link: "../run", mode: 0o777})
	entries, err := os.ReadDir(filepath.Join(root, "plugins"))
	if err != nil {
		return nil, nil, err
	}
	paths := map[string]string{"berth": program}
	for _, e := range entries {
		paths[e.Name()] = plugins + e.Name()
	}
	var programs []string
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		data, err := os.ReadFile(filepath.Join(built, name))
		if err != nil {
			return nil, nil, err
		}
		files = append(files, file{path: paths[name], mode: 0o755, data: data})
		programs = append(programs, filepath.Join(built, name))
	}
	if sbom, err = bill(version, programs); err != nil {
		return nil, nil, err
	}
	license, err := os.ReadFile(filepath.Join(root, "LICENSE"))
	if err != nil {
		return nil, nil, err
	}
	return append(files, file{path: sbomDir + "LICENSE", mode: 0o644, data: license}, file{path: sbomDir + "sbom.cdx.json", mode: 0o644, data: sbom}), sbom, nil
}

// labels are those of the image specification's annotations.md.
func labels(version string, created time.Time) map[string]string {
	return map[string]string{
		spec.AnnotationTitle:       "berth",
		spec.AnnotationDescription: "Berth's agent and CNI plugins, which the agent installs",
		spec.AnnotationVersion:     version,
		spec.AnnotationLicenses:    "Apache-2.0",
		spec.AnnotationSource:      "https://github.com/berth-cni/berth",
		spec.AnnotationCreated:     created.Format(time.RFC3339),
	}
}
