package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/berth-cni/berth/integration/screen"
)

// showNames: step 4.
func (l *lab) showNames() error {
	var pid int
	err := l.host.do(func() (err error) {
		pid, err = agentPID()
		return err
	})
	if err != nil {
		return err
	}
	l.Claim(pid > 1, "process %d  berth agent --on-demand", pid)
	l.Quote(strings.Split(strings.TrimSpace("/etc/resolv.conf of client:\n"+l.query.got.resolv), "\n")...)
	for _, try := range []struct{ line, want string }{
		{"getent ahostsv4 web1", l.web1.got.v4}, {"getent ahostsv6 web1", l.web1.got.v6},
		{"getent ahostsv4 WEB2." + network, l.web2.got.v4}, {"getent hosts " + l.web2.got.v4, "web2." + network},
	} {
		out, err := l.resolving(l.query, try.line)
		if err != nil {
			return err
		}
		first, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
		l.Command(strings.Contains(out, try.want), l.query.name, try.line, strings.Join(strings.Fields(first), "  "), try.want)
	}
	out, err := l.resolving(l.query, "getent hosts nobody || echo not found")
	if err != nil {
		return err
	}
	l.Command(strings.TrimSpace(out) == "not found", l.query.name, "getent hosts nobody", screen.LastLine(out), "not found")
	return nil
}

// resolving runs a line in the container with the resolv.conf that a runtime would give
// it.
func (l *lab) resolving(c *container, line string) (string, error) {
	dir, err := os.MkdirTemp("", "berth-demo")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(file, []byte(c.got.resolv), 0o644); err != nil {
		return "", err
	}
	out, err := c.machine.output("unshare", "-m", "sh", "-c", "mount --bind "+file+" /etc/resolv.conf && "+line)
	if err != nil {
		return out, fmt.Errorf("%s in %s: %w", line, c.ID, err)
	}
	return out, nil
}

// agentPID is that of the agent that a plugin has started on the calling thread's host.
func agentPID() (int, error) {
	data, err := os.ReadFile("/run/berth/names.lock")
	if err != nil {
		return 0, fmt.Errorf("look for the agent: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSuffix(string(data), " on-demand"))
	if err != nil {
		return 0, err
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil || strings.TrimSpace(string(comm)) != "berth" {
		return 0, os.ErrProcessDone
	}
	return pid, nil
}

// claimAgentEnds: nobody needs a name any more.
func (l *lab) claimAgentEnds() error {
	start := time.Now()
	ended := false
	for !ended && time.Since(start) < 10*time.Second {
		time.Sleep(50 * time.Millisecond)
		err := l.host.do(func() error {
			_, err := os.Stat("/run/berth/agent.sock")
			ended = os.IsNotExist(err)
			return nil
		})
		if err != nil {
			return err
		}
	}
	l.Claim(ended, "the agent has ended by itself, %.1f s after the last container", time.Since(start).Seconds())
	return nil
}
