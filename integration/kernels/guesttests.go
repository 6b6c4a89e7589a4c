package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// guestTests runs a job's tests in the machine.
func guestTests(dir string) error {
	j, err := readJob(dir)
	if err != nil {
		return err
	}
	version, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return err
	}
	if err := os.WriteFile(release(dir), bytes.TrimSpace(version), 0o644); err != nil {
		return err
	}
	for _, t := range j.Tests {
		start := time.Now()
		err := t.run(dir)
		end := "ok"
		if err != nil {
			end = err.Error()
		}
		fmt.Printf("%s%-24s %6.1f s %s\n", said, t.Name, time.Since(start).Seconds(), end)
		if err := os.WriteFile(t.ended(dir), []byte(end), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// run runs the binary, whose output goes to a file of the shared folder.
func (t test) run(dir string) error {
	out, err := os.Create(t.output(dir))
	if err != nil {
		return err
	}
	defer out.Close()
	// The binary ends itself before: -test.timeout.
	ctx, stop := context.WithTimeout(context.Background(), t.Limit+time.Minute)
	defer stop()
	cmd := exec.CommandContext(ctx, t.Binary, "-test.v=test2json", "-test.timeout="+t.Limit.String(), "-test.run="+t.Run, "-test.skip="+t.Skip)
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.Dir, out, out
	return cmd.Run()
}
