package sandbox

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const netnsDir = "/run/netns"

// Container is what a runtime makes before it calls CNI: an ID and a network
// namespace with lo up.
type Container struct {
	ID    string
	Netns string // path on the host; `ip netns` knows it by its last element
	host  *Host
}

// Container makes a container whose ID is name.
func (h *Host) Container(name string) (*Container, error) {
	path := filepath.Join(netnsDir, name)
	err := h.Do(func() error {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o444)
		if err != nil {
			return err
		}
		f.Close()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		return loopbackUp()
	})
	if err != nil {
		return nil, fmt.Errorf("make container %s: %w", name, err)
	}
	return &Container{ID: name, Netns: path, host: h}, nil
}

// Remove takes the container's namespace away, and its interfaces with it.
func (c *Container) Remove() error {
	return c.host.Do(func() error {
		if err := unix.Unmount(c.Netns, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", c.Netns, err)
		}
		return os.Remove(c.Netns)
	})
}

// Do is [Host.Do] with the container's network.
func (c *Container) Do(fn func() error) error {
	return c.host.Do(func() error {
		ns, err := os.Open(c.Netns)
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter %s: %w", c.Netns, err)
		}
		return fn()
	})
}

// Output runs a program with the container's network.
func (c *Container) Output(name string, args ...string) (string, error) {
	return c.host.Output("nsenter", append([]string{"--net=" + c.Netns, name}, args...)...)
}

// Serve answers every TCP connection to the address (":80") with the container's ID
// and the peer's IP address, as "ID ADDRESS", until stop is called.
func (c *Container) Serve(address string) (stop func(), err error) {
	return serve(c.Do, c.ID, address)
}

// Serve is [Container.Serve] on the host itself, whose ID is "host".
func (h *Host) Serve(address string) (stop func(), err error) {
	return serve(h.Do, "host", address)
}

func serve(do func(func() error) error, id, address string) (stop func(), err error) {
	var l net.Listener
	err = do(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			peer, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
			fmt.Fprintf(conn, "%s %s", id, peer)
			conn.Close()
		}
	}()
	return func() { release(l) }, nil
}

// release closes a listener so that its address is free at once: a process that another
// goroutine is about to start has a copy of the socket until its exec, and closing ours
// leaves that one listening.
func release(l net.Listener) {
	if c, err := l.(*net.TCPListener).SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	}
	l.Close()
}

// Ask dials a TCP address from the container and returns what a [Container.Serve]
// there answers.
func (c *Container) Ask(address string) (answer string, err error) {
	err = c.Do(func() error {
		answer, err = ask(address)
		return err
	})
	return answer, err
}

// Ask is [Container.Ask] from the host itself.
func (h *Host) Ask(address string) (answer string, err error) {
	err = h.Do(func() error {
		answer, err = ask(address)
		return err
	})
	return answer, err
}

func ask(address string) (string, error) {
	conn, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return "", err
	}
	buf := make([]byte, 256)
	n, err := conn.Read(buf)
	return string(buf[:n]), err
}

// loopbackUp sets lo up in the calling thread's network namespace.
func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}
