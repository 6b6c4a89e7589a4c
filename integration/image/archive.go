package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	_ "crypto/sha256" // which go-digest has no import of
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	spec "github.com/opencontainers/image-spec/specs-go/v1"
)

// archive is an OCI image layout (image-layout.md) in a tar file, with the manifest.json
// of Docker's older form beside it: both name the same blobs.
type archive struct {
	ref     string
	created time.Time
	index   digest.Digest // of all platforms' images

	blobs     map[digest.Digest][]byte
	manifests []spec.Descriptor
	docker    []dockerImage
}

// dockerImage is what 'docker load' reads where images are not kept by containerd.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func (a *archive) blob(mediaType string, data []byte) spec.Descriptor {
	d := spec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if a.blobs == nil {
		a.blobs = map[digest.Digest][]byte{}
	}
	a.blobs[d.Digest] = data
	return d
}

func (a *archive) document(mediaType string, v any) (spec.Descriptor, error) {
	data, err := json.Marshal(v)
	return a.blob(mediaType, data), err
}

// add adds the image of one architecture, of one layer.
func (a *archive) add(arch string, labels map[string]string, files []file) error {
	plain, packed, err := layer(files, a.created)
	if err != nil {
		return err
	}
	content := a.blob(spec.MediaTypeImageLayerGzip, packed)
	platform := spec.Platform{Architecture: arch, OS: "linux"}
	config, err := a.document(spec.MediaTypeImageConfig, spec.Image{
		Created: &a.created, Platform: platform,
		Config:  spec.ImageConfig{Entrypoint: []string{"/" + program}, Cmd: []string{"agent"}, Env: []string{"PATH=/usr/local/bin"}, WorkingDir: "/", Labels: labels},
		RootFS:  spec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(plain)}},
		History: []spec.History{{Created: &a.created, CreatedBy: "make image"}},
	})
	if err != nil {
		return err
	}
	manifest, err := a.document(spec.MediaTypeImageManifest, spec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: spec.MediaTypeImageManifest,
		Config: config, Layers: []spec.Descriptor{content}, Annotations: labels,
	})
	if err != nil {
		return err
	}
	manifest.Platform = &platform
	a.manifests = append(a.manifests, manifest)
	if a.docker == nil { // which knows one platform
		a.docker = []dockerImage{{Config: blobPath(config.Digest), RepoTags: []string{a.ref}, Layers: []string{blobPath(content.Digest)}}}
	}
	return nil
}

func blobPath(d digest.Digest) string { return "blobs/" + string(d.Algorithm()) + "/" + d.Encoded() }

// layer is a tar file of the files, plain and compressed, in which all depends on them and
// the time alone.
func layer(files []file, at time.Time) (plain, packed []byte, err error) {
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.path, b.path) })
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		if err := put(w, f, at); err != nil {
			return nil, nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, nil, err
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err = z.Write(out.Bytes())
	err = errors.Join(err, z.Close())
	return out.Bytes(), zipped.Bytes(), err
}

func put(w *tar.Writer, f file, at time.Time) error {
	h := &tar.Header{Name: f.path, Mode: f.mode, ModTime: at, Size: int64(len(f.data)), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
	switch {
	case f.link != "":
		h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
	case strings.HasSuffix(f.path, "/"):
		h.Typeflag = tar.TypeDir
	}
	if err := w.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	_, err := w.Write(f.data)
	return err
}

// write writes the file, or nothing.
func (a *archive) write(path string) error {
	all, err := a.layout()
	if err != nil {
		return err
	}
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // when it has not been renamed
	if err := errors.Join(a.pack(f, all), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func (a *archive) pack(to io.Writer, files []file) error {
	w := tar.NewWriter(to)
	for _, f := range files {
		if err := put(w, f, a.created); err != nil {
			return err
		}
	}
	return w.Close()
}

// layout are the files of the archive: the image of all platforms under its name, and what
// Docker's older form has in place of that.
func (a *archive) layout() ([]file, error) {
	whole, err := a.document(spec.MediaTypeImageIndex, spec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: spec.MediaTypeImageIndex, Manifests: a.manifests,
	})
	if err != nil {
		return nil, err
	}
	a.index = whole.Digest
	_, tag, _ := strings.Cut(a.ref[strings.LastIndex(a.ref, "/")+1:], ":")
	whole.Annotations = map[string]string{"io.containerd.image.name": a.ref, spec.AnnotationRefName: tag}
	files := []file{{path: "blobs/", mode: 0o755}, {path: "blobs/sha256/", mode: 0o755}}
	for path, v := range map[string]any{
		spec.ImageLayoutFile: spec.ImageLayout{Version: spec.ImageLayoutVersion},
		spec.ImageIndexFile:  spec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: spec.MediaTypeImageIndex, Manifests: []spec.Descriptor{whole}},
		"manifest.json":      a.docker,
	} {
		data, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		files = append(files, file{path: path, mode: 0o644, data: data})
	}
	for d, data := range a.blobs {
		files = append(files, file{path: blobPath(d), mode: 0o644, data: data})
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.path, b.path) })
	return files, nil
}
