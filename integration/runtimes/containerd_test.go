package runtimes

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// containerd is one version of the runtime, as it is found and configured.
type containerd struct {
	name   string // of its tests, and in BERTH_WITHOUT
	folder string // of its programs; empty: the PATH
	hint   string
	config string // %[1]s: folder, %[2]s: tmpfs, %[3]s: image
	// handler is what the configuration has for one more runtime handler, with a
	// network of its own: %[1]s: its name, %[2]s: its folder of conflists.
	handler string
}

// Without CAP_SYS_RESOURCE runc cannot set a negative oom_score_adj; with it the
// setting changes nothing that is of interest here. runc refuses a pod in the host's
// namespace the sysctls that containerd 2 sets by enable_unprivileged_*.
var containerds = []containerd{{
	name: "containerd1", hint: "apt-get install containerd runc",
	config: `version = 2
root = "%[2]s/root"
state = "%[2]s/state"
[grpc]
address = "%[1]s/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "%[2]s/opt"
[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
sandbox_image = "%[3]s"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "%[1]s/plugins"
conf_dir = "%[1]s/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
`, handler: `[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.%[1]s]
runtime_type = "io.containerd.runc.v2"
cni_conf_dir = "%[2]s"
`}, {
	name: "containerd2", folder: "../.bin/containerd2", hint: "make -C integration containerd2",
	config: `version = 3
root = "%[2]s/root"
state = "%[2]s/state"
[grpc]
address = "%[1]s/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "%[2]s/opt"
[plugins."io.containerd.nri.v1.nri"]
disable = true
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "%[3]s"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
enable_unprivileged_ports = false
enable_unprivileged_icmp = false
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["%[1]s/plugins"]
conf_dir = "%[1]s/net.d"
`, handler: `[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.%[1]s]
runtime_type = "io.containerd.runc.v2"
cni_conf_dir = "%[2]s"
`}}

// network is what the pods of a runtime handler get.
type network struct{ handler, conflist string }

// daemon is a containerd that runs on a machine.
type daemon struct {
	*machine
	containerd
	path string // PATH of the daemon, with its shim
	cri.RuntimeServiceClient
	images cri.ImageServiceClient
	conn   *grpc.ClientConn
	dns    *cri.DNSConfig // of every pod; nil: the machine's
}

// newDaemon starts a containerd with the conflist, and imports the image. Each of the
// others is the conflist of the runtime handler of that name.
func newDaemon(t testing.TB, c containerd, conflist string, others ...network) *daemon {
	t.Helper()
	program := need(t, c.name, filepath.Join(c.folder, "containerd"), c.hint)
	folder, err := filepath.Abs(filepath.Dir(program))
	must(t, err)
	d := &daemon{machine: newMachine(t), containerd: c, path: folder + ":" + os.Getenv("PATH")}
	config := fmt.Sprintf(c.config, d.dir, d.state, image)
	for _, n := range others {
		file := d.write(n.handler+".d/10.conflist", n.conflist)
		config += fmt.Sprintf(c.handler, n.handler, filepath.Dir(file))
	}
	d.write("containerd.toml", config)
	d.write("net.d/10-pods.conflist", conflist)
	d.start(t)
	d.mustRun(filepath.Join(folder, "ctr"), "--address="+d.socket(), "--namespace=k8s.io", "images", "import", imagePath())
	d.await(t, "the image", func(ctx context.Context) error {
		r, err := d.images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: image}})
		if err == nil && r.Image == nil {
			err = fmt.Errorf("%s is not there", image)
		}
		return err
	})
	return d
}

func (d *daemon) socket() string { return filepath.Join(d.dir, "containerd.sock") }

// start starts the program and waits until CNI is ready.
func (d *daemon) start(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(d.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	defer log.Close()
	cmd := d.command("/bin/sh", "-c", "echo $$ >"+d.dir+"/pid; exec containerd --config="+d.dir+"/containerd.toml")
	cmd.Env = append(os.Environ(), "PATH="+d.path)
	cmd.Stdout, cmd.Stderr = log, log
	must(t, cmd.Start())
	go func() { _ = cmd.Wait() }()
	d.connect(t)
	d.await(t, "containerd", func(ctx context.Context) error {
		r, err := d.Status(ctx, &cri.StatusRequest{})
		if err != nil {
			return err
		}
		for _, c := range r.Status.Conditions {
			if !c.Status && (c.Type == cri.RuntimeReady || c.Type == cri.NetworkReady) {
				return fmt.Errorf("%s: %s: %s", c.Type, c.Reason, c.Message)
			}
		}
		return nil
	})
}

func (d *daemon) connect(t testing.TB) {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///cri", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", d.socket())
		}))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	d.conn, d.RuntimeServiceClient, d.images = conn, cri.NewRuntimeServiceClient(conn), cri.NewImageServiceClient(conn)
}

// kill ends the daemon, and only it, as a crash does.
func (d *daemon) kill(t testing.TB) {
	t.Helper()
	d.conn.Close()
	pid, err := os.ReadFile(filepath.Join(d.dir, "pid"))
	must(t, err)
	d.mustRun("kill", "-KILL", strings.TrimSpace(string(pid)))
	must(t, os.Remove(d.socket()))
}

// await asks until there is no error.
func (d *daemon) await(t testing.TB, what string, ask func(context.Context) error) {
	t.Helper()
	var err error
	for range 100 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		err = ask(ctx)
		cancel()
		if err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	log, _ := exec.Command("tail", "-n", "20", filepath.Join(d.dir, "log")).Output()
	t.Fatalf("wait for %s: %v\n%s", what, err, log)
}
