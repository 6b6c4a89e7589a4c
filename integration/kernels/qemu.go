package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// emulated is a machine of QEMU with a kernel that is unpacked in a folder. The
// initramfs has this program, and the modules by which it mounts the root by 9P.
func emulated(kernel, dir string) (*machine, error) {
	modules, err := one(filepath.Join(kernel, "lib/modules/*"))
	if err != nil {
		return nil, err
	}
	image, err := one(filepath.Join(modules, "vmlinuz")) // since 6.19
	if err != nil {
		image, err = one(filepath.Join(kernel, "boot/vmlinuz-*"))
	}
	if err != nil {
		return nil, err
	}
	early, err := closure(modules, "virtio_pci", "9pnet_virtio", "9p", "overlay")
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	initrd := filepath.Join(dir, "initrd")
	files := append([]entry{{"init", self}}, entries(early)...)
	if err := initramfs(initrd, files); err != nil {
		return nil, fmt.Errorf("write the initramfs: %w", err)
	}
	var names []string
	for _, f := range files[1:] {
		names = append(names, "/"+f.name)
	}
	command := []string{"console=ttyS0", "quiet", "panic=-1", "random.trust_cpu=on", "rdinit=/init",
		jobEnv + "=" + dir, shareEnv + "=9p", earlyEnv + "=" + strings.Join(names, ",")}
	return &machine{modules: modules, args: []string{
		"qemu-system-x86_64", "-accel", accelerator(), "-cpu", "max", "-smp", "2", "-m", "2G",
		"-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot",
		"-kernel", image, "-initrd", initrd, "-append", strings.Join(command, " "),
		"-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
		"-device", "virtio-9p-pci,fsdev=root,mount_tag=root",
		"-fsdev", "local,id=job,security_model=none,path=" + dir,
		"-device", "virtio-9p-pci,fsdev=job,mount_tag=job",
	}}, nil
}

// accelerator is KVM on a processor that has what it needs, else emulation.
func accelerator() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil || !regexp.MustCompile(`(?m)^flags\s*:.*\b(vmx|svm)\b`).Match(info) {
		return "tcg,thread=multi"
	}
	kvm.Close()
	return "kvm"
}

// entries are files for the initramfs, by their names without folders.
func entries(paths []string) (all []entry) {
	for _, p := range paths {
		all = append(all, entry{filepath.Base(p), p})
	}
	return all
}

// one is the only file that matches a pattern.
func one(pattern string) (string, error) {
	found, err := filepath.Glob(pattern)
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%s: %d files, not one", pattern, len(found))
	}
	return found[0], nil
}
