package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// What the kernel's command line gives to the first process, as its environment.
const (
	jobEnv   = "BERTH_JOB"    // the folder that is shared with the machine
	shareEnv = "BERTH_SHARE"  // how it is shared: 9p or hostfs
	earlyEnv = "BERTH_MODULE" // modules in the initramfs, which are loaded first
)

// job is what a guest does, in job.json of the shared folder.
type job struct {
	Modules string // the folder of the kernel's modules
	Path    string // PATH
	Tests   []test
}

// test is a package's test binary.
type test struct {
	Name      string // as "pkg/link", of the package in its module
	Dir       string // the package's folder
	Binary    string
	Run, Skip string        // as go test takes them
	Limit     time.Duration // the tests' time
}

// output is the file that has what the binary wrote.
func (t test) output(dir string) string { return filepath.Join(dir, flat(t.Name)+".out") }

// ended is the file that says how the binary ended.
func (t test) ended(dir string) string { return filepath.Join(dir, flat(t.Name)+".end") }

// release is the file that has the kernel's release.
func release(dir string) string { return filepath.Join(dir, "release") }

func writeJob(dir string, j job) error {
	data, err := json.MarshalIndent(j, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "job.json"), data, 0o644)
}

func readJob(dir string) (j job, err error) {
	data, err := os.ReadFile(filepath.Join(dir, "job.json"))
	if err != nil {
		return j, err
	}
	if err := json.Unmarshal(data, &j); err != nil {
		return j, fmt.Errorf("read %s/job.json: %w", dir, err)
	}
	return j, nil
}
