package runtimes

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
)

// image is the name of the one image: busybox, and the test server, which is its
// entry point and the pods' pause program.
const image = "localhost/berth-test:1"

const (
	mediaManifest = "application/vnd.oci.image.manifest.v1+json"
	mediaConfig   = "application/vnd.oci.image.config.v1+json"
	mediaLayer    = "application/vnd.oci.image.layer.v1.tar"
)

// archive collects the blobs of an OCI image layout (image-spec v1.1,
// image-layout.md) in a tar.
type archive struct {
	tar *tar.Writer
	buf bytes.Buffer
}

// descriptor points to a blob.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func newArchive() *archive {
	a := &archive{}
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
	return descriptor{MediaType: media, Digest: "sha256:" + sum, Size: len(data)}, a.file("blobs/sha256/"+sum, 0o644, data)
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

// layer is the root file system: /server, /bin/busybox with the shell's name, and
// the folders that runtimes mount on.
func layer(server string) ([]byte, error) {
	a := newArchive()
	for _, dir := range []string{"bin/", "dev/", "etc/", "proc/", "sys/", "run/", "tmp/"} {
		if err := a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return nil, err
		}
	}
	for name, from := range map[string]string{"server": server, "bin/busybox": "/bin/busybox"} {
		data, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		if err := a.file(name, 0o755, data); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"bin/sh", "bin/ip", "bin/sleep"} {
		if err := a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: "busybox"}); err != nil {
			return nil, err
		}
	}
	if err := a.file("etc/passwd", 0o644, []byte("root:x:0:0:root:/:/bin/sh\n")); err != nil {
		return nil, err
	}
	return a.bytes()
}

// writeImage writes the image as an OCI archive.
func writeImage(path, server string) error {
	root, err := layer(server)
	if err != nil {
		return err
	}
	a := newArchive()
	fs, err := a.blob(mediaLayer, root)
	if err != nil {
		return err
	}
	conf, err := a.object(mediaConfig, map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": []string{"/server"}, "Cmd": []string{"pause"}, "Env": []string{"PATH=/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fs.Digest}},
	})
	if err != nil {
		return err
	}
	manifest, err := a.object(mediaManifest, map[string]any{
		"schemaVersion": 2, "mediaType": mediaManifest, "config": conf, "layers": []descriptor{fs},
	})
	if err != nil {
		return err
	}
	manifest.Annotations = map[string]string{"org.opencontainers.image.ref.name": image, "io.containerd.image.name": image}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifest}})
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
