package runtimes

import "github.com/berth-cni/berth/integration/oci"

// image is the name of the one image: busybox, and the test server, which is its
// entry point and the pods' pause program.
const image = "localhost/berth-test:1"

// layer is the root file system: /server, /bin/busybox with the shell's name, and
// the folders that runtimes mount on.
func layer(server string) ([]byte, error) {
	return oci.Layer(oci.Root{
		Dirs:  []string{"bin", "dev", "etc", "proc", "sys", "run", "tmp"},
		Files: map[string]string{"server": server, "bin/busybox": "/bin/busybox"},
		Links: map[string]string{"bin/sh": "busybox", "bin/ip": "busybox", "bin/sleep": "busybox"},
		Texts: map[string]string{"etc/passwd": "root:x:0:0:root:/:/bin/sh\n"},
	})
}

// writeImage writes the image as an OCI archive.
func writeImage(path, server string) error {
	root, err := layer(server)
	if err != nil {
		return err
	}
	return oci.Write(path, oci.Image{Names: []string{image}, Layers: [][]byte{root},
		Entrypoint: []string{"/server"}, Cmd: []string{"pause"}, Env: []string{"PATH=/bin"}})
}
