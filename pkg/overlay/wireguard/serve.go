package wireguard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ipc"
	"golang.zx2c4.com/wireguard/tun"
)

// ready is what a process says on its standard output once its device can be configured;
// all else that it says is why not.
const ready = "ready\n"

// Serve has a WireGuard device in user space, which is configured by a socket in
// /var/run/wireguard, as `wg` does it, until the context ends or the device is deleted. It
// closes report when the device is there, or cannot be.
func Serve(ctx context.Context, name string, mtu int, report io.WriteCloser, log *log.Logger) error {
	err := serve(ctx, name, mtu, report, log)
	if err != nil {
		fmt.Fprintln(report, err) // nobody reads it after the start
		report.Close()
	}
	return err
}

func serve(ctx context.Context, name string, mtu int, report io.WriteCloser, log *log.Logger) error {
	t, err := tun.CreateTUN(name, mtu)
	if err != nil {
		return fmt.Errorf("make device %s: %w", name, err)
	}
	if err := setQueue(name, queue); err != nil {
		t.Close()
		return fmt.Errorf("set queue of device %s: %w", name, err)
	}
	socket, err := ipc.UAPIOpen(name)
	if err != nil {
		t.Close()
		return fmt.Errorf("open socket of device %s: %w", name, err)
	}
	defer socket.Close()
	// Nothing of the protocol: what goes wrong with a peer is for others to find out.
	d := device.NewDevice(checksummed{t}, conn.NewDefaultBind(), &device.Logger{Verbosef: device.DiscardLogf, Errorf: log.Printf})
	defer d.Close()
	l, err := net.FileListener(socket)
	if err != nil {
		return fmt.Errorf("listen on socket of device %s: %w", name, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(true)
	defer l.Close()
	ended := make(chan error, 2)
	go accept(l, d, ended)
	go watch(ctx, socketPath(name), ended)
	if _, err := io.WriteString(report, ready); err != nil {
		return err
	}
	report.Close()
	select {
	case <-ctx.Done():
	case <-d.Wait():
	case err := <-ended: // the socket was deleted: nobody could configure the device any more
		return err
	}
	return nil
}

// queue is how many packets, of up to 64 KiB each, wait for the process; what comes when it
// is full is dropped. The kernel's WireGuard lets as many wait (MAX_QUEUED_PACKETS), tun's
// default is 500.
const queue = 1024

// setQueue sets the length of a device's queue.
func setQueue(name string, packets uint32) error {
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	r.SetUint32(packets)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.IoctlIfreq(fd, unix.SIOCSIFTXQLEN, r)
}

// watch tells when the socket is deleted. It looks, once a second, as inotify may not be to
// be had: a user has 128 instances (fs.inotify.max_user_instances), and a node's other
// programs may have taken them all.
func watch(ctx context.Context, path string, ended chan<- error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			ended <- err
			return
		}
	}
}

func accept(l net.Listener, d *device.Device, ended chan<- error) {
	for {
		c, err := l.Accept()
		if err != nil {
			ended <- err
			return
		}
		go d.IpcHandle(c)
	}
}
