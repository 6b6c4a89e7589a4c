package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// userMode is a machine of user-mode Linux, whose root is the machine's own folder /.
func userMode(dir string) (*machine, error) {
	program, err := exec.LookPath("linux.uml")
	if err != nil {
		return nil, errors.New("linux.uml is not there: it is in Debian's package user-mode-linux")
	}
	found, err := filepath.Glob("/usr/lib/uml/modules/*")
	if err != nil || len(found) != 1 {
		return nil, fmt.Errorf("/usr/lib/uml/modules has the modules of %d kernels, not of one", len(found))
	}
	early, err := closure(found[0], "overlay")
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	init := filepath.Join(dir, "init")
	if err := copyFile(self, init); err != nil {
		return nil, err
	}
	return &machine{modules: found[0], args: []string{
		program, "mem=2G", "umid=" + filepath.Base(dir), "uml_dir=" + dir,
		"root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "init=" + init, "quiet", "panic=-1",
		"con=null", "con0=null,fd:1", "console=tty0",
		jobEnv + "=" + dir, shareEnv + "=hostfs", earlyEnv + "=" + strings.Join(early, ","),
	}}, nil
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}
