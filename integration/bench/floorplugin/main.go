// floorplugin is the least that a CNI plugin for a bridge can do: a process, one
// small transaction on a bbolt file, and the kernel's floor. It takes the
// container's number from its ID ("c17") and its address from the number.
package main

import (
	"fmt"
	"os"
	"runtime"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/berth-cni/berth/integration/floor"
)

func main() {
	runtime.LockOSThread()
	if err := run(); err != nil {
		fmt.Printf(`{"code":100,"msg":%q}`, err)
		os.Exit(1)
	}
}

func run() error {
	var n int
	if _, err := fmt.Sscanf(os.Getenv("CNI_CONTAINERID"), "c%d", &n); err != nil {
		return err
	}
	link := floor.Numbered(n, os.Getenv("CNI_NETNS"))
	switch os.Getenv("CNI_COMMAND") {
	case "ADD":
		if err := update(func(b *bbolt.Bucket) error { return b.Put([]byte(link.Name), make([]byte, 1000)) }); err != nil {
			return err
		}
		bridge, err := floor.Index(floor.Bridge)
		if err != nil {
			return err
		}
		link.Bridge = bridge
		if err := floor.Add(link); err != nil {
			return err
		}
		fmt.Printf(`{"cniVersion":"1.0.0","ips":[{"address":%q,"gateway":%q}]}`, link.Address, link.Gateway)
	case "DEL":
		if err := floor.Del(link.Name); err != nil {
			return err
		}
		return update(func(b *bbolt.Bucket) error { return b.Delete([]byte(link.Name)) })
	}
	return nil
}

// update holds a lock of its own: bbolt's polls every 50 ms.
func update(fn func(*bbolt.Bucket) error) error {
	lock, err := unix.Open("/run/floor.lock", unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(lock)
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Flock(lock, unix.LOCK_EX)
	}
	if err != nil {
		return err
	}
	db, err := bbolt.Open("/run/floor.db", 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("attachments"))
		if err != nil {
			return err
		}
		return fn(b)
	})
}
