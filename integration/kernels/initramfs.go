package main

import (
	"bytes"
	"fmt"
	"os"
)

// entry is a file of an initramfs.
type entry struct {
	name string
	path string // where its content is
}

// initramfs writes files into an archive of cpio's format newc
// (Documentation/driver-api/early-userspace/buffer-format.rst).
func initramfs(to string, files []entry) error {
	var archive bytes.Buffer
	inode := 0
	add := func(name string, mode int, content []byte) {
		inode++
		if name == "TRAILER!!!" {
			inode = 0
		}
		fmt.Fprintf(&archive, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
			inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
		archive.WriteString(name)
		archive.WriteByte(0)
		pad(&archive)
		archive.Write(content)
		pad(&archive)
	}
	for _, dir := range []string{"dev", "proc", "mnt"} {
		add(dir, 0o040755, nil)
	}
	for _, f := range files {
		content, err := os.ReadFile(f.path)
		if err != nil {
			return err
		}
		add(f.name, 0o100755, content)
	}
	add("TRAILER!!!", 0, nil)
	return os.WriteFile(to, archive.Bytes(), 0o644)
}

// pad fills up to a multiple of four bytes.
func pad(b *bytes.Buffer) {
	for b.Len()%4 != 0 {
		b.WriteByte(0)
	}
}
