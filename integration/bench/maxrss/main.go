// maxrss runs a program and writes the peak of its resident memory, in KiB, to
// file descriptor 3.
//
// The kernel counts for a process what its parent held when it forked without a
// copy (getrusage(2): ru_maxrss outlives execve), so the parent has to be small:
// this program, not the benchmark.
package main

import (
	"os"
	"strconv"
	"syscall"
)

func main() {
	pid, err := syscall.ForkExec(os.Args[1], os.Args[1:], &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		os.Stderr.WriteString(err.Error())
		os.Exit(127)
	}
	var status syscall.WaitStatus
	var usage syscall.Rusage
	for {
		if _, err = syscall.Wait4(pid, &status, 0, &usage); err != syscall.EINTR {
			break
		}
	}
	syscall.Write(3, []byte(strconv.FormatInt(usage.Maxrss, 10)))
	os.Exit(status.ExitStatus())
}
