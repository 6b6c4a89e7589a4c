package nodes

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/integration/sandbox"
)

// Node is one node. Its disk outlives [Node.Reboot], its host does not.
type Node struct {
	*cluster.Host
	Number int

	cluster *Cluster
	disk    string
	init    *exec.Cmd
	pid     int                         // file descriptor of the first process
	running map[string]*cluster.Process // by name of the program
}

// disks are the folders that are on a node's own disk.
var disks = []string{"var/lib/kubelet", "var/lib/containerd", "var/lib/berth", "var/lib/cni", "var/log/pods", "var/log/containers", "etc/cni", "opt/cni"}

func (c *Cluster) addNode(number int) error {
	n := &Node{Number: number, cluster: c}
	c.Nodes = append(c.Nodes, n)
	name := fmt.Sprint("n", number)
	n.disk = filepath.Join(c.dir, name)
	for _, dir := range append([]string{"etc", "opt/cni/bin", "etc/cni/net.d"}, disks...) {
		if err := os.MkdirAll(filepath.Join(n.disk, dir), 0o755); err != nil {
			return err
		}
	}
	if number == 1 {
		if err := n.otherPlugins(); err != nil {
			return err
		}
	}
	return n.boot(name)
}

// otherPlugins gives the node the reference plugins, as Kubernetes' own packages do. The
// other nodes have none.
func (n *Node) otherPlugins() error {
	dir, err := sandbox.References()
	if err != nil {
		return err
	}
	for _, name := range []string{"bridge", "host-local", "loopback", "macvlan", "portmap"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(n.disk, "opt/cni/bin", name), data, 0o755)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// boot makes the node's host and its first process.
func (n *Node) boot(name string) (err error) {
	n.running = map[string]*cluster.Process{}
	if n.Host, err = n.cluster.Host(name, n.Number); err != nil {
		return err
	}
	if err := n.DefaultRoute(n.cluster.Outside); err != nil {
		return err
	}
	if err := n.makeGroup(); err != nil {
		return err
	}
	if err := n.mounts(); err != nil {
		return fmt.Errorf("mount the disk of %s: %w", name, err)
	}
	return n.start1()
}

func (n *Node) mounts() error {
	share, err := shareGroups()
	if err != nil {
		return err
	}
	files := map[string]string{
		"etc/resolv.conf": fmt.Sprintf("nameserver %s\n", n.cluster.Outside.Addr4),
		"etc/hosts":       fmt.Sprintf("127.0.0.1 localhost\n::1 localhost\n%s %s\n", n.Addr4, n.Name),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(n.disk, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return n.Host.Do(func() error {
		if err := share(); err != nil {
			return err
		}
		for _, path := range append([]string{"etc/resolv.conf", "etc/hosts"}, disks...) {
			if path[:4] != "etc/" || path == "etc/cni" {
				if err := os.MkdirAll("/"+path, 0o755); err != nil {
					return err
				}
			}
			if err := unix.Mount(filepath.Join(n.disk, path), "/"+path, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("mount /%s: %w", path, err)
			}
		}
		value := "0"
		if n.cluster.options.BridgeNetfilter {
			value = "1"
		}
		for _, name := range []string{"iptables", "ip6tables"} {
			if err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+name, []byte(value), 0o644); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		// What kubelet and a runtime mount is seen by all of the node.
		return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
	})
}

// start1 starts the first process: this program, as [First].
func (n *Node) start1() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	n.init = exec.Command(self)
	n.init.Env = append(os.Environ(), firstEnv+"="+n.Name)
	n.init.Stderr = os.Stderr
	n.init.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		PidFD:      &n.pid,
	}
	if _, err := n.init.StdinPipe(); err != nil { // its end is the node's end
		return err
	}
	out, err := n.init.StdoutPipe()
	if err != nil {
		return err
	}
	if err := n.Host.Do(n.init.Start); err != nil {
		return fmt.Errorf("first process of %s: %w", n.Name, err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "up\n" {
		return fmt.Errorf("first process of %s: %q %w", n.Name, line, err)
	}
	return nil
}

// Do runs fn among the node's processes, in all of its namespaces.
func (n *Node) Do(fn func() error) error {
	return n.Host.Do(func() error {
		if err := unix.Setns(n.pid, unix.CLONE_NEWNS|unix.CLONE_NEWPID|unix.CLONE_NEWIPC|unix.CLONE_NEWUTS); err != nil {
			return fmt.Errorf("enter node %s: %w", n.Name, err)
		}
		return fn()
	})
}

// Run starts a program among the node's processes, by which it can be stopped and started
// again.
func (n *Node) Run(program string, args ...string) error {
	p, err := cluster.StartIn(n.Do, program, args...)
	if err != nil {
		return fmt.Errorf("start %s on node %s: %w", program, n.Name, err)
	}
	n.running[filepath.Base(program)] = p
	return nil
}

// Process is a program that runs on the node, or did.
func (n *Node) Process(program string) *cluster.Process { return n.running[program] }

// In runs a program among the node's processes, and returns what it wrote on both streams.
func (n *Node) In(name string, args ...string) (string, error) {
	var out []byte
	err := n.Do(func() (err error) {
		out, err = exec.Command(name, args...).CombinedOutput()
		return err
	})
	if err != nil {
		err = fmt.Errorf("%s %s on %s: %w\n%s", name, strings.Join(args, " "), n.Name, err, out)
	}
	return string(out), err
}

// halt ends all that runs on the node, as when its power is cut.
func (n *Node) halt() error {
	if n.init == nil || n.init.Process == nil {
		return nil
	}
	_ = n.init.Process.Kill()
	_ = n.init.Wait()
	for _, p := range n.running {
		p.Kill() // it is dead, but not yet collected
	}
	unix.Close(n.pid)
	n.init = nil
	return n.removeGroup()
}

func (n *Node) close() error { return n.halt() }

// Reboot cuts the node's power, and starts it again with the disk that it had. The first
// node, which has the control plane, cannot be rebooted.
func (n *Node) Reboot() error {
	name := n.Name
	if err := n.halt(); err != nil {
		return err
	}
	n.cluster.Remove(n.Host)
	if err := n.boot(name); err != nil {
		return err
	}
	return n.services()
}
