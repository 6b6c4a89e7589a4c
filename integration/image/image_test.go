package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
	"github.com/opencontainers/go-digest"
	spec "github.com/opencontainers/image-spec/specs-go/v1"
)

// untar returns the files of a tar file by their paths.
func untar(t *testing.T, r io.Reader) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != 1700000000 {
			t.Errorf("%s: of %d:%d at %v", h.Name, h.Uid, h.Gid, h.ModTime)
		}
		if h.Linkname != "" {
			data = []byte(h.Linkname)
		}
		files[h.Name] = data
	}
}

func read[T any](t *testing.T, files map[string][]byte, path string) (v T) {
	t.Helper()
	if err := json.Unmarshal(files[path], &v); err != nil {
		t.Fatalf("%s: %q: %v", path, files[path], err)
	}
	return v
}

// TestImage: the same programs make the same file; every blob is what its name says; and
// the image has the agent and every plugin, which want no library.
func TestImage(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	bin, err := sandbox.Binaries()
	if err != nil {
		t.Fatal(err)
	}
	make := func(platforms ...string) map[string][]byte {
		out := filepath.Join(t.TempDir(), "image.tar")
		if err := run("../..", bin, out, "localhost/berth:1", "v1.2.3", platforms); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return untar(t, f)
	}
	files := make("amd64", "arm64")
	if again := make("amd64"); !bytes.Equal(again["manifest.json"], files["manifest.json"]) {
		t.Errorf("the second time another image was made: %s, %s", files["manifest.json"], again["manifest.json"])
	}
	for path, data := range files {
		if sum, ok := strings.CutPrefix(path, "blobs/sha256/"); ok && sum != "" && digest.FromBytes(data).Encoded() != sum {
			t.Errorf("%s is not what its name says", path)
		}
	}
	index := read[spec.Index](t, files, spec.ImageIndexFile)
	if index.Manifests[0].Annotations["io.containerd.image.name"] != "localhost/berth:1" {
		t.Errorf("the index names %v", index.Manifests[0].Annotations)
	}
	var platforms []string
	for _, m := range read[spec.Index](t, files, blobPath(index.Manifests[0].Digest)).Manifests {
		platforms = append(platforms, m.Platform.OS+"/"+m.Platform.Architecture)
		manifest := read[spec.Manifest](t, files, blobPath(m.Digest))
		config := read[spec.Image](t, files, blobPath(manifest.Config.Digest))
		if config.Config.Labels[spec.AnnotationVersion] != "v1.2.3" || config.Config.Entrypoint[0] != "/usr/local/bin/berth" {
			t.Errorf("configuration %+v", config.Config)
		}
		z, err := gzip.NewReader(bytes.NewReader(files[blobPath(manifest.Layers[0].Digest)]))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(z)
		if err != nil || digest.FromBytes(plain) != config.RootFS.DiffIDs[0] {
			t.Errorf("layer: %v, is not %s", err, config.RootFS.DiffIDs[0])
		}
		checkLayer(t, untar(t, bytes.NewReader(plain)))
	}
	if want := []string{"linux/amd64", "linux/arm64"}; !slices.Equal(platforms, want) {
		t.Errorf("platforms %v, want %v", platforms, want)
	}
	docker := read[[]dockerImage](t, files, "manifest.json")
	if len(docker) != 1 || docker[0].RepoTags[0] != "localhost/berth:1" || files[docker[0].Config] == nil || files[docker[0].Layers[0]] == nil {
		t.Errorf("manifest.json: %+v", docker)
	}
}

func checkLayer(t *testing.T, layer map[string][]byte) {
	t.Helper()
	folders, err := os.ReadDir("../../plugins")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{program}
	for _, f := range folders {
		want = append(want, plugins+f.Name())
	}
	for _, path := range want {
		f, err := elf.NewFile(bytes.NewReader(layer[path]))
		if err != nil {
			t.Errorf("%s: %v; the image has %v", path, err, slices.Sorted(maps.Keys(layer)))
			continue
		}
		if libraries, err := f.ImportedLibraries(); err != nil || len(libraries) > 0 || f.Section(".interp") != nil {
			t.Errorf("%s is not static: %v, %v", path, libraries, err)
		}
	}
	if string(layer["var/run"]) != "../run" {
		t.Errorf("var/run leads to %q", layer["var/run"])
	}
	bill := string(layer[sbomDir+"sbom.cdx.json"])
	for _, part := range []string{"pkg:golang/go.etcd.io/bbolt@v", "pkg:golang/std@1.", `"program:vxlan-overlay"`, `"CycloneDX"`} {
		if !strings.Contains(bill, part) {
			t.Errorf("the bill of materials has no %s", part)
		}
	}
}
