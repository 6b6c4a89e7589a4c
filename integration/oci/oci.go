// Package oci writes images of containers for tests, as OCI archives (image-spec v1.1,
// image-layout.md), which containerd, podman and Docker take without a registry.
package oci

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
)

const (
	mediaManifest = "application/vnd.oci.image.manifest.v1+json"
	mediaConfig   = "application/vnd.oci.image.config.v1+json"
	mediaLayer    = "application/vnd.oci.image.layer.v1.tar"
)

// Image is one image, by each of its names.
type Image struct {
	Names           []string
	Entrypoint, Cmd []string
	Env             []string
	Layers          [][]byte // see [Layer]
}

// archive collects the blobs of an OCI image layout in a tar.
type archive struct {
	tar   *tar.Writer
	buf   bytes.Buffer
	blobs map[string]bool
}

// descriptor points to a blob.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func newArchive() *archive {
	a := &archive{blobs: map[string]bool{}}
	a.tar = tar.NewWriter(&a.buf)
	return a
}

func (a *archive) file(name string, mode int64, data []byte) error {
	err := a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data))})
	if err == nil {
		_, err = a.tar.Write(data)
	}
	return err
}

func (a *archive) blob(media string, data []byte) (descriptor, error) {
	sum := fmt.Sprintf("%x", sha256.Sum256(data))
	d := descriptor{MediaType: media, Digest: "sha256:" + sum, Size: len(data)}
	if a.blobs[sum] {
		return d, nil
	}
	a.blobs[sum] = true
	return d, a.file("blobs/sha256/"+sum, 0o644, data)
}

// object adds a blob that is JSON.
func (a *archive) object(media string, v any) (descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return descriptor{}, err
	}
	return a.blob(media, data)
}

func (a *archive) bytes() ([]byte, error) {
	err := a.tar.Close()
	return a.buf.Bytes(), err
}

// image adds an image, and returns what points to it.
func (a *archive) image(i Image) (descriptor, error) {
	var layers []descriptor
	var ids []string
	for _, l := range i.Layers {
		d, err := a.blob(mediaLayer, l)
		if err != nil {
			return d, err
		}
		layers, ids = append(layers, d), append(ids, d.Digest)
	}
	conf, err := a.object(mediaConfig, map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": i.Entrypoint, "Cmd": i.Cmd, "Env": i.Env},
		"rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	})
	if err != nil {
		return conf, err
	}
	return a.object(mediaManifest, map[string]any{
		"schemaVersion": 2, "mediaType": mediaManifest, "config": conf, "layers": layers,
	})
}

// Write writes the images as one archive. A layer that several have is in it once.
func Write(path string, images ...Image) error {
	a := newArchive()
	var manifests []descriptor
	for _, i := range images {
		d, err := a.image(i)
		if err != nil {
			return err
		}
		for _, name := range i.Names {
			d.Annotations = map[string]string{"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name}
			manifests = append(manifests, d)
		}
	}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": manifests})
	if err != nil {
		return err
	}
	if err := a.file("index.json", 0o644, index); err != nil {
		return err
	}
	if err := a.file("oci-layout", 0o644, []byte(`{"imageLayoutVersion": "1.0.0"}`)); err != nil {
		return err
	}
	data, err := a.bytes()
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
