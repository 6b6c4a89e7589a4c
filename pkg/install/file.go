package install

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// perm is an installed plugin's: every runtime may run it.
const perm = 0o755

// unfinished is the end of the name of a file that is being written.
const unfinished = ".new"

// module is what Berth's plugins are built of.
const module = "github.com/berth-cni/berth"

// Ours tells whether the file of a plugin's second name may be replaced or removed: it is
// Berth's, or half of a file. The error says what it is instead.
func Ours(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no file of ours: %v", path, info.Mode())
	}
	if built, err := buildinfo.ReadFile(path); err == nil {
		if built.Main.Path != module && !strings.HasPrefix(built.Path, module+"/") {
			return fmt.Errorf("%s is another's, built of %s", path, built.Path)
		}
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 2)
	if n, _ := io.ReadFull(f, head); bytes.HasPrefix(head[:n], []byte("#!")) {
		return fmt.Errorf("%s is another's, a script", path)
	}
	return nil
}

// builtOfUs tells whether a file is a whole program of Berth's.
func builtOfUs(path string) bool {
	built, err := buildinfo.ReadFile(path)
	return err == nil && (built.Main.Path == module || strings.HasPrefix(built.Path, module+"/"))
}

// replace has the plugin's file there in one step: who looks finds what was there or all
// of the new one, which is on the disk by then. A plugin that runs goes on with its own.
func replace(s plugin, path string) error {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+unfinished)
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	defer os.Remove(tmp) // when it has not been renamed
	if err := write(s, tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// write copies the plugin, and has the copy on the disk when it returns.
func write(s plugin, path string) error {
	source, err := os.Open(s.source)
	if err != nil {
		return err
	}
	defer source.Close()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, perm)
	if err != nil {
		return err
	}
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, sum), source)
	if err := errors.Join(err, f.Chmod(perm), f.Sync(), f.Close()); err != nil { // the umask may be narrow
		return err
	}
	if !bytes.Equal(sum.Sum(nil), s.digest[:]) {
		return fmt.Errorf("%s has changed since the agent's start", s.source)
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func digestOf(path string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return sum, err
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// stamp tells a file that nobody has changed.
type stamp struct {
	inode        uint64
	size         int64
	mode         fs.FileMode
	mtime, ctime syscall.Timespec
}

func stampOf(path string) (stamp, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return stamp{}, err
	}
	s := stamp{size: info.Size(), mode: info.Mode()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode, s.mtime, s.ctime = sys.Ino, sys.Mtim, sys.Ctim
	}
	return s, nil
}
