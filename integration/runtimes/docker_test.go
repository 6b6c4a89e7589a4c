package runtimes

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// docker is Debian's dockerd on a machine, and its client.
type docker struct {
	*machine
	flavour string // of iptables: nft, legacy
	ask     asker  // from d1
	daemon  *exec.Cmd
	log     string
}

const dockerSocket = "unix:///run/docker.sock"

// start starts the daemon, and waits until it answers.
func (d *docker) start(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(t, err)
	defer log.Close()
	d.daemon = d.command("env", "PATH="+d.tools()+":"+os.Getenv("PATH"), "dockerd", "--host="+dockerSocket, "--group=root",
		"--data-root="+d.state+"/docker", "--exec-root=/run/docker", "--pidfile=/run/docker.pid", "--cgroup-parent="+d.cgroup+"/docker",
		"--exec-opt=native.cgroupdriver=cgroupfs", "--experimental", "--ipv6", "--fixed-cidr-v6=fd00:d::/64", "--ip6tables", "--live-restore")
	d.daemon.Stdout, d.daemon.Stderr = log, log
	must(t, d.daemon.Start())
	var answer string
	for range 300 {
		if answer, err = d.docker("version", "--format", "{{.Server.Version}}"); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("dockerd does not answer: %s %v\n%s", answer, err, d.tail())
}

// stop ends the daemon; its containers go on.
func (d *docker) stop(t testing.TB) {
	t.Helper()
	if _, err := d.run("sh", "-c", "kill $(cat /run/docker.pid)"); err != nil {
		t.Fatal(err)
	}
	_ = d.daemon.Wait()
}

func (d *docker) tail() string {
	data, _ := os.ReadFile(d.log)
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// tools is a folder with iptables of the flavour.
func (d *docker) tools() string {
	dir := filepath.Join(d.dir, "tools")
	_ = os.Mkdir(dir, 0o755)
	for _, name := range []string{"iptables", "ip6tables"} {
		_ = os.Symlink("/usr/sbin/"+name+"-"+d.flavour, filepath.Join(dir, name))
		for _, end := range []string{"-save", "-restore"} {
			_ = os.Symlink("/usr/sbin/"+name+"-"+d.flavour+end, filepath.Join(dir, name+end))
		}
	}
	return dir
}

func (d *docker) docker(args ...string) (string, error) {
	return d.run(append([]string{"docker", "--host=" + dockerSocket}, args...)...)
}

// container runs the test server.
func (d *docker) container(t testing.TB, name string, flags ...string) {
	t.Helper()
	if _, err := d.docker("image", "inspect", "berth-test"); err != nil {
		path := d.write("layer.tar", "")
		data, err := layer(serverPath())
		must(t, err)
		must(t, os.WriteFile(path, data, 0o644))
		_, err = d.docker("import", path, "berth-test")
		must(t, err)
	}
	args := append([]string{"run", "--detach", "--name=" + name}, flags...)
	out, err := d.docker(append(args, "berth-test", "/server", "serve", name, "80")...)
	if err != nil {
		t.Fatalf("%s %v\n%s", out, err, d.tail())
	}
}

// asker asks from a container of Docker, also while the daemon is away.
func (d *docker) asker(t testing.TB, name string) asker {
	t.Helper()
	pid, err := d.docker("inspect", "--format", "{{.State.Pid}}", name)
	must(t, err)
	return func(network, address string) (string, error) {
		return d.run("nsenter", "--net", "--target="+pid, serverPath(), "ask", network, address)
	}
}

// besideDocker is a host with Docker's iptables in a flavour, and a backend of Berth's.
type besideDocker struct{ flavour, backend string }

var besideDockers = []besideDocker{{"nft", "nftables"}, {"legacy", "nftables"}, {"nft", "iptables"}, {"legacy", "iptables"}}

// each runs a test on every kind of host.
func (besideDocker) each(t *testing.T, test func(*testing.T, *beside, *docker)) {
	for _, kind := range besideDockers {
		t.Run("docker "+kind.flavour+" berth "+kind.backend, func(t *testing.T) {
			t.Parallel()
			b := newBeside(t, kind.backend)
			test(t, b, &docker{machine: b.machine, flavour: kind.flavour, log: filepath.Join(b.dir, "docker.log")})
		})
	}
}

// dockerStarts: with two containers, one of them published. A Docker of today sets the
// policy of FORWARD to drop; Debian's does only where it has switched forwarding on.
func (b *beside) dockerStarts(d *docker) {
	b.t.Helper()
	d.start(b.t)
	if b.docker == nil {
		d.container(b.t, "d1", "--publish=8081:80")
		_, err := d.docker("network", "create", "other")
		must(b.t, err)
		d.container(b.t, "d2", "--network=other")
		d.ask = d.asker(b.t, "d1")
	}
	b.docker = d
	d.iptables("-P", "FORWARD", "DROP")
}

// iptables changes the rules of both families.
func (d *docker) iptables(args ...string) {
	d.t.Helper()
	for _, program := range []string{"iptables", "ip6tables"} {
		d.mustRun(append([]string{filepath.Join(d.tools(), program), "-w"}, args...)...)
	}
}

// apart are the questions that nobody answers: what Docker drops on purpose, between its
// networks, stays dropped.
func (b *beside) apart() (all []question) {
	b.t.Helper()
	out, err := b.docker.docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "d2")
	must(b.t, err)
	return []question{{"d1 does not reach d2 on another network at " + out, "", func() (string, error) {
		answer, _ := b.docker.ask("tcp", at(out, 80))
		return answer, nil
	}}}
}

// TestDockerBefore: Docker runs when a network begins, and is restarted.
func TestDockerBefore(t *testing.T) {
	besideDocker{}.each(t, func(t *testing.T, b *beside, d *docker) {
		b.dockerStarts(d)
		// docker0 looks for a duplicate of its IPv6 address when it has its first container.
		b.settle("before ADD", 20*time.Second, b.way("d1", 8081, b.docker.ask))
		b.add("c1", 8080)
		b.hold("after ADD", b.all())
		b.hold("Docker's networks", b.apart())
		d.stop(t)
		b.hold("without dockerd", b.all())
		b.dockerStarts(d)
		b.hold("after a restart of Docker", b.all())
	})
}

// TestDockerAfter: Docker starts beside containers of Berth that run. The next ADD, the
// agent, reload and the doctor each let them through again.
func TestDockerAfter(t *testing.T) {
	besideDocker{}.each(t, func(t *testing.T, b *beside, d *docker) {
		b.add("c1", 8080)
		b.hold("alone", b.ours())
		b.dockerStarts(d)
		b.bad("Docker has started", "FORWARD")
		b.add("c2", 8082)
		b.hold("after the next ADD", b.all())
		b.repaired("iptables -F FORWARD", "FORWARD", func() { d.iptables("-F", "FORWARD") })
		b.repaired("a flush of all rules", "berth reload", func() {
			d.mustRun("nft", "flush", "ruleset")
			for _, table := range []string{"nat", "mangle", "filter"} {
				d.iptables("-t", table, "-F")
				d.iptables("-t", table, "-X")
			}
			d.iptables("-P", "FORWARD", "DROP")
		})
		d.stop(t)
		b.dockerStarts(d)
		b.hold("after a restart of Docker", b.all())
	})
}
