package vxlan

import (
	"bytes"
	"os/exec"
	"testing"
)

// program is one that runs beside the test, in the test's namespace.
type program struct {
	cmd *exec.Cmd
	out bytes.Buffer
}

func start(t *testing.T, name string, args ...string) *program {
	t.Helper()
	p := &program{cmd: exec.CommandContext(t.Context(), name, args...)}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// wait returns what the program wrote until its end.
func (p *program) wait() string {
	_ = p.cmd.Wait()
	return p.out.String()
}

func (p *program) stop() string {
	_ = p.cmd.Process.Kill()
	return p.wait()
}
