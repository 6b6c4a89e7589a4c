package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pages are all texts for people, but those of conf-examples.
func pages(t *testing.T) []string {
	t.Helper()
	top, err := filepath.Glob("../*.md")
	must(t, err)
	docs, err := filepath.Glob("../docs/*.md")
	must(t, err)
	if len(top) == 0 || len(docs) == 0 {
		t.Fatalf("%d pages, and %d in docs", len(top), len(docs))
	}
	return append(top, docs...)
}

// TestDocsConfigurations: every JSON block of docs is a conflist that libcni loads, and
// whose plugins say by STATUS that an ADD would work. Each plugin is in one of them.
func TestDocsConfigurations(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.lan()
	b.overlay()
	ipvlan := b.hasIPVlan()
	shown := map[string]bool{}
	for _, path := range pages(t) {
		for _, block := range fenced(page(t, path), "json") {
			n, err := b.Network(block, b.bin, b.ref)
			if err != nil {
				t.Errorf("%s: %v:\n%s", path, err, block)
				continue
			}
			for _, p := range n.List.Plugins {
				shown[p.Network.Type] = true
			}
			if n.List.CNIVersion != version {
				t.Errorf("%s: network %s does not say version %s, and nobody asks it for STATUS", path, n.List.Name, version)
			}
			if n.List.Plugins[0].Network.Type == "ipvlan" && !ipvlan {
				continue // [TestIPVlanMissing] has what it says
			}
			if err := n.Status(); err != nil {
				t.Errorf("%s: network %s: %v", path, n.List.Name, err)
			}
		}
	}
	plugins, err := os.ReadDir("../plugins")
	must(t, err)
	for _, p := range plugins {
		if p.Name() != "berth-ipam" && !shown[p.Name()] {
			t.Errorf("no page shows a network of %s", p.Name())
		}
		if !strings.Contains(page(t, "../README.md"), "\n| [`"+p.Name()+"`](docs/") {
			t.Errorf("the README leads to no page about %s", p.Name())
		}
	}
}

// TestDocsLinks: the files and sections that pages lead to are there.
func TestDocsLinks(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#:]*)(?:#([^)]*))?\)`)
	source := regexp.MustCompile("`((?:pkg|plugins|conf-examples|integration)/[\\w./*-]*\\w)`")
	for _, from := range pages(t) {
		text := page(t, from)
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			to := from
			if m[1] != "" {
				to = filepath.Join(filepath.Dir(from), m[1])
			}
			data, err := os.ReadFile(to)
			if err != nil {
				t.Errorf("%s: %v", from, err)
			}
			if m[2] != "" && !slices.Contains(anchors(string(data)), m[2]) {
				t.Errorf("%s: %s has no section %q", from, to, m[2])
			}
		}
		for _, m := range source.FindAllStringSubmatch(text, -1) {
			if found, err := filepath.Glob("../" + m[1]); err != nil || len(found) == 0 {
				t.Errorf("%s: there is no %s", from, m[1])
			}
		}
	}
}

// anchors are the sections of a page, as links name them.
func anchors(text string) (names []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^\w -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}
