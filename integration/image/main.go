// Image makes the OCI image of the agent and the plugins, without Docker and without a
// registry: a tar file with an image for each platform, which 'ctr images import' and
// 'docker load' take. The same sources make the same file.
//
//	go run ./image -version v1.2.3 -o berth-image.tar
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func main() {
	root := flag.String("root", "..", "the repository")
	out := flag.String("o", "../bin/berth-image.tar", "file to write; the SBOMs are beside it")
	ref := flag.String("ref", "localhost/berth-cni/berth:devel", "name and tag of the image")
	version := flag.String("version", "devel", "version of the suite")
	platforms := flag.String("platforms", "amd64,arm64", "architectures, the first being what a runtime takes that knows only one")
	binaries := flag.String("binaries", "", "folder of programs that are built already, for one architecture")
	flag.Parse()
	if err := run(*root, *binaries, *out, *ref, *version, strings.Split(*platforms, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(root, binaries, out, ref, version string, platforms []string) error {
	created, err := created()
	if err != nil {
		return err
	}
	dir := filepath.Join(filepath.Dir(out), "image")
	a := &archive{ref: ref, created: created}
	for _, arch := range platforms {
		built := binaries
		if built == "" {
			built = filepath.Join(dir, arch)
			if err := build(root, built, version, arch); err != nil {
				return err
			}
		}
		files, sbom, err := contents(root, built, version)
		if err != nil {
			return err
		}
		if err := os.WriteFile(fmt.Sprintf("%s.%s.cdx.json", strings.TrimSuffix(out, ".tar"), arch), sbom, 0o644); err != nil {
			return err
		}
		if err := a.add(arch, labels(version, created), files); err != nil {
			return fmt.Errorf("make image of %s: %w", arch, err)
		}
	}
	if err := a.write(out); err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	fmt.Printf("%s: %s for %s, %s\n", out, ref, strings.Join(platforms, " and "), a.index)
	return nil
}

// created is the time that all files of the image have: SOURCE_DATE_EPOCH, as
// reproducible-builds.org has it, or the beginning of time.
func created() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %q: want seconds since 1970", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// build makes the programs of one architecture, all of them static.
func build(root, dir, version, arch string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X github.com/berth-cni/berth/pkg/cni.Version="+version, "-o", dir+"/", "./plugins/...", "./cmd/berth")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build for %s: %w", arch, err)
	}
	return nil
}
