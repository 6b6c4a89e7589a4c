package nodes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/berth-cni/berth/integration/kubernetes"
	"github.com/berth-cni/berth/integration/oci"
)

// The images that the tests name. Kubernetes' own find all of theirs under
// [Repository].
const (
	Image       = "localhost/berth-test:1" // busybox as sh, and server as /server, which is its entry point
	dnsImage    = "localhost/coredns:1"
	pauseImage  = "localhost/pause:1"
	Repository  = "localhost/e2e"
	agnhostPath = "test/images/agnhost"
)

// tools are what Kubernetes' own tests run in their images beside agnhost, which upstream
// has from another distribution. Their nc knows -v, -t and -u; a shell that is busybox's
// would run busybox's nc.
var tools = []string{"bash", "curl", "dig", "getent", "ip", "iptables", "conntrack", "ss", "nc.openbsd", "wget"}

// buildServer builds integration/runtimes/server into a folder.
func buildServer(dir string) (string, error) {
	path := filepath.Join(dir, "server")
	cmd := exec.Command("go", "build", "-o", path, "github.com/berth-cni/berth/integration/runtimes/server")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build server: %w\n%s", err, out)
	}
	return path, nil
}

// writeImages writes an archive with all images.
func writeImages(path, server string) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	agnhost, err := kubernetes.Program("agnhost")
	if err != nil {
		return err
	}
	coredns, err := kubernetes.Program("coredns")
	if err != nil {
		return err
	}
	source, err := kubernetes.Source()
	if err != nil {
		return err
	}
	root := oci.Root{
		Dirs: []string{"bin", "dev", "etc", "proc", "sys", "run", "tmp", "root", "home", "var", "uploads", "usr/bin", "usr/sbin", "mnt"},
		Files: map[string]string{"bin/busybox": busybox, "server": server, "agnhost": agnhost, "coredns": coredns,
			"localhost.crt": filepath.Join(source, agnhostPath, "porter/localhost.crt"), "localhost.key": filepath.Join(source, agnhostPath, "porter/localhost.key")},
		Links: map[string]string{"agnhost-2": "agnhost"},
		Texts: map[string]string{"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n"},
	}
	if err := addTools(&root, busybox); err != nil {
		return err
	}
	all, err := oci.Layer(root)
	if err != nil {
		return err
	}
	small, err := oci.Layer(oci.Root{Dirs: []string{"dev", "etc", "proc", "sys"}, Files: map[string]string{"server": server}})
	if err != nil {
		return err
	}
	dns, err := oci.Layer(oci.Root{Dirs: []string{"dev", "etc", "proc", "sys", "tmp"}, Files: map[string]string{"coredns": coredns}})
	if err != nil {
		return err
	}
	regression, err := kubernetes.Program("regression-issue-74839")
	if err != nil {
		return err
	}
	invalid, err := oci.Layer(oci.Root{Dirs: []string{"dev", "etc", "proc", "sys"}, Files: map[string]string{"regression-issue-74839": regression}})
	if err != nil {
		return err
	}
	version, err := os.ReadFile(filepath.Join(source, agnhostPath, "VERSION"))
	if err != nil {
		return err
	}
	paths := []string{"PATH=/bin:/usr/bin:/usr/sbin:/"}
	e2e := func(names ...string) (all []string) {
		for _, n := range names {
			all = append(all, Repository+"/"+n)
		}
		return all
	}
	return oci.Write(path,
		oci.Image{Names: e2e("agnhost:" + strings.TrimSpace(string(version))), Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"}, Env: paths, Layers: [][]byte{all}},
		oci.Image{Names: e2e("glibc-dns-testing:2.0.0"), Cmd: []string{"/bin/sh", "-c", "sleep 36000"}, Env: paths, Layers: [][]byte{all}},
		oci.Image{Names: e2e("nginx:1.15-4", "nginx:1.27-0"), Entrypoint: []string{"/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/etc"}, Env: paths, Layers: [][]byte{all}},
		oci.Image{Names: append(e2e("busybox:1.37.0-1"), Image), Cmd: []string{"/bin/sh"}, Env: paths, Layers: [][]byte{all}},
		oci.Image{Names: append(e2e("pause:3.10.2"), pauseImage), Entrypoint: []string{"/server", "pause"}, Layers: [][]byte{small}},
		oci.Image{Names: e2e("regression-issue-74839:1.4"), Entrypoint: []string{"/regression-issue-74839"}, Layers: [][]byte{invalid}},
		oci.Image{Names: []string{dnsImage}, Entrypoint: []string{"/coredns"}, Layers: [][]byte{dns}},
	)
}

// libraries finds what ldd prints.
var libraries = regexp.MustCompile(`/\S+\.so\S*`)

// addTools adds busybox's names, and this machine's programs with their libraries.
func addTools(root *oci.Root, busybox string) error {
	names, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(names)) {
		if name != "busybox" {
			root.Links["bin/"+name] = "busybox"
		}
	}
	libs := map[string]bool{}
	for _, name := range tools {
		path, err := exec.LookPath(name)
		if err != nil {
			return err
		}
		base, _, _ := strings.Cut(name, ".")
		delete(root.Links, "bin/"+base)
		root.Files["usr/bin/"+base] = path
		out, err := exec.Command("ldd", path).Output()
		if err != nil {
			continue // static
		}
		for _, lib := range libraries.FindAllString(string(out), -1) {
			libs[lib] = true
		}
	}
	for lib := range libs {
		root.Files[strings.TrimPrefix(lib, "/")] = lib
		for _, nss := range []string{"libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2"} {
			beside := filepath.Join(filepath.Dir(lib), nss)
			if _, err := os.Stat(beside); err == nil {
				root.Files[strings.TrimPrefix(beside, "/")] = beside
			}
		}
	}
	root.Links["bin/sh"], root.Links["bin/bash"] = "/usr/bin/bash", "/usr/bin/bash"
	return nil
}
