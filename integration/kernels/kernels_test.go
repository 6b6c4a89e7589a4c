package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestClosure(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"modules.dep":     "kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/fs/netfs/netfs.ko.xz\nkernel/net/9p/9pnet.ko.xz:\nkernel/net/9p/9pnet-virtio.ko: kernel/net/9p/9pnet.ko.xz\nkernel/fs/netfs/netfs.ko.xz:\n",
		"modules.builtin": "kernel/drivers/virtio/virtio_pci.ko\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := closure(dir, "virtio_pci", "9pnet_virtio", "9p")
	for i, path := range got {
		got[i] = filepath.Base(path)
	}
	if want := []string{"9pnet.ko.xz", "9pnet-virtio.ko", "netfs.ko.xz", "9p.ko.xz"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q (%v), want %q", got, err, want)
	}
	if _, err := closure(dir, "overlay"); err == nil || !strings.Contains(err.Error(), "overlay") {
		t.Errorf("a module that is not there: %v", err)
	}
}

func TestChoose(t *testing.T) {
	if all, err := choose(nil); err != nil || len(all) != len(kernels) {
		t.Errorf("without names: %d kernels, %v", len(all), err)
	}
	if _, err := choose([]string{"uml", "2.6"}); err == nil || !strings.Contains(err.Error(), "6.12") {
		t.Errorf("an unknown one: %v, want the known ones", err)
	}
}

// What the host makes of a guest that has run some tests.
func TestResults(t *testing.T) {
	dir := t.TempDir()
	const out = "\x16=== RUN   TestA\n\x16--- PASS: TestA (0.00s)\n\x16=== NAME  \n" +
		"\x16=== RUN   TestB\n    b_test.go:7: no such kernel\n\x16--- SKIP: TestB (0.00s)\n\x16=== NAME  \n"
	for _, c := range []struct{ name, out, end, want string }{
		{"good", out + "\x16PASS\n", "ok", "[pass TestA] [skip TestB]"},
		{"failed", out + "\x16=== RUN   TestC\n    c_test.go:9: bad\n\x16--- FAIL: TestC (0.00s)\n\x16=== NAME  \n\x16FAIL\n", "exit status 1", "[pass TestA] [skip TestB] [fail TestC]"},
		{"killed", out + "\x16=== RUN   TestD\n", "signal: killed", "[pass TestA] [skip TestB] [fail ]"},
		{"late", out + "\x16=== RUN   TestC\n\x16--- FAIL: TestC (0.00s)\n\x16=== NAME  \npanic: test timed out\n", "exit status 2", "[pass TestA] [skip TestB] [fail TestC] [fail ]"},
		{"crashed", out, "exit status 2", "[pass TestA] [skip TestB] [fail ]"},
		{"hung", out, "", "[fail ]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tt := test{Name: "pkg/" + c.name}
			if err := os.WriteFile(tt.output(dir), []byte(c.out), 0o644); err != nil {
				t.Fatal(err)
			}
			if c.end != "" {
				if err := os.WriteFile(tt.ended(dir), []byte(c.end), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			r := &report{kernel: "x"}
			r.read(dir, []test{tt})
			var got []string
			for _, x := range r.results {
				got = append(got, fmt.Sprintf("[%s %s]", x.action, x.test))
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			if summary(new(strings.Builder), []*report{r}) != (c.name == "good") {
				t.Error("the wrong exit status")
			}
		})
	}
}
