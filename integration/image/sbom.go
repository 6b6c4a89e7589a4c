package main

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"maps"
	"path/filepath"
	"runtime/debug"
	"slices"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// bill is the software bill of materials of programs, as CycloneDX: what the linker wrote
// into each, the module's path, version and hash (as go.sum has it). It has neither a time nor
// a serial number: the same programs have the same bill.
func bill(version string, programs []string) ([]byte, error) {
	modules := map[string]*debug.Module{}
	var goVersion string
	parts := []cdx.Component{}
	for _, path := range programs {
		built, err := buildinfo.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read what %s is built of: %w", path, err)
		}
		goVersion = built.GoVersion
		for _, m := range built.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			modules[purl(m.Path, m.Version)] = m
		}
		parts = append(parts, cdx.Component{BOMRef: "program:" + filepath.Base(path), Type: cdx.ComponentTypeApplication, Name: filepath.Base(path), Version: version})
	}
	own := cdx.Component{BOMRef: "berth", Type: cdx.ComponentTypeContainer, Name: "berth", Version: version, PackageURL: purl("github.com/berth-cni/berth", ""),
		Licenses: &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}}}
	std := purl("std", goVersion[len("go"):])
	parts = append(parts, cdx.Component{BOMRef: std, Type: cdx.ComponentTypeLibrary, Name: "std", Version: goVersion, PackageURL: std})
	for _, ref := range slices.Sorted(maps.Keys(modules)) {
		m := modules[ref]
		parts = append(parts, cdx.Component{BOMRef: ref, Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: ref,
			Properties: &[]cdx.Property{{Name: "go:sum", Value: m.Sum}}})
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &own}
	bom.Components = &parts
	var out bytes.Buffer
	err := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
	return out.Bytes(), err
}

// purl is a module's package URL (github.com/package-url/purl-spec).
func purl(path, version string) string {
	if version == "" {
		return "pkg:golang/" + path
	}
	return "pkg:golang/" + path + "@" + version
}
