package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// traced is what the agent sent to the kernel for one change, on average.
type traced struct {
	sends    float64 // system calls that send netlink messages
	messages float64 // netlink messages in them
	calls    float64 // system calls of any kind
}

// trace counts an agent's system calls while changes of one kind are made, with
// strace. The agent must have nothing else to do meanwhile.
func (b *bed) trace(count int, what func() error) (t traced, err error) {
	dir, err := os.MkdirTemp("", "scale-")
	if err != nil {
		return t, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "trace")
	cmd := exec.Command("strace", "-f", "-qq", "-ttt", "-s", "4096", "-o", out, "-p", strconv.Itoa(b.agent.Pid))
	if err := cmd.Start(); err != nil {
		return t, err
	}
	time.Sleep(time.Second) // until it has attached to all threads
	start := time.Now()
	for i := 0; i < count && err == nil; i++ {
		err = what()
	}
	time.Sleep(200 * time.Millisecond)
	_ = cmd.Process.Signal(os.Interrupt) // it writes what it has buffered
	_ = cmd.Wait()
	data, failed := os.ReadFile(out)
	if err = errors.Join(err, failed); err != nil {
		return t, err
	}
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line) // thread, time, call
		if len(words) < 3 || strings.HasPrefix(words[2], "<...") || strings.HasPrefix(words[2], "+++") || strings.HasPrefix(words[2], "---") {
			continue
		}
		if at, err := strconv.ParseFloat(words[1], 64); err != nil || at < float64(start.UnixMicro())/1e6 {
			continue
		}
		t.calls++
		if strings.HasPrefix(words[2], "send") && strings.Contains(line, "nlmsg_type=") {
			t.sends++
			t.messages += float64(strings.Count(line, "nlmsg_type="))
		}
	}
	if t.sends == 0 {
		return t, fmt.Errorf("strace has seen no netlink message in %d bytes", len(data))
	}
	n := float64(count)
	return traced{t.sends / n, t.messages / n, t.calls / n}, nil
}
