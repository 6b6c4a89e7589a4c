package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// tracing is a trace that runs.
type tracing struct {
	*exec.Cmd
	out strings.Builder
}

func (b *traced) begin(question string) *tracing {
	b.t.Helper()
	x := &tracing{Cmd: exec.Command(filepath.Join(b.bin, "berth"), strings.Fields("trace --format json "+b.fill(question))...)}
	x.Stdout = &x.out
	must(b.t, b.Do(x.Start))
	return x
}

// end waits for its end, which a signal may be.
func (x *tracing) end(t *testing.T) (verdict string) {
	t.Helper()
	var exit *exec.ExitError
	if err := x.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var r struct{ Verdict string }
	_ = json.Unmarshal([]byte(x.out.String()), &r)
	return r.Verdict
}

// tables is how many tables of traces there are in the namespaces of the host and of
// containers.
func (b *traced) tables(containers ...string) (n int) {
	b.t.Helper()
	all := []interface {
		Output(string, ...string) (string, error)
	}{b.Host}
	for _, name := range containers {
		all = append(all, b.all[name])
	}
	for _, place := range all {
		out, err := place.Output("nft", "list", "tables")
		must(b.t, err)
		n += strings.Count(out, "berth-trace")
	}
	return n
}

// guard has somebody's rule drop what goes to the outside.
func (b *traced) guard() {
	b.t.Helper()
	_, err := b.Output("nft", "add table inet guard; add chain inet guard f { type filter hook forward priority 10; }; add rule inet guard f ip daddr "+sandbox.OutsideAddr4+" drop")
	must(b.t, err)
}

// TestTraceKilled: a trace that ends by whatever signal, at whatever time, leaves no table in
// any of the namespaces, and the next one is right.
func TestTraceKilled(t *testing.T) {
	t.Parallel()
	b := newTraced(t)
	b.guard()
	for _, there := range []int{0, 1, 3, 4} { // when the signal comes: of families inet and bridge in two namespaces
		for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT} {
			x := b.begin("--wait 120s {out} {host}:8080")
			b.soon(func() error {
				if n := b.tables("db"); n < there {
					return fmt.Errorf("%d tables, want %d", n, there)
				}
				return nil
			})
			_ = x.Process.Signal(signal)
			x.end(t)
			if n := b.tables("db"); n != 0 {
				t.Errorf("%s at %d tables: %d are left", signal, there, n)
			}
		}
	}
	if r, out := b.trace("web {out}:80"); r.Verdict != "lost" || !strings.Contains(r.Why, "ip daddr "+sandbox.OutsideAddr4+" drop") {
		t.Error(out)
	}
}

// TestTraceBeside: traces at the same time, of one flow and of two, do not disturb each other,
// nor does somebody who flushes the ruleset meanwhile take their tables away.
func TestTraceBeside(t *testing.T) {
	t.Parallel()
	b := newTraced(t)
	long := b.begin("--wait 120s {out} {host}:8080")
	b.soon(func() error {
		if b.tables("db") < 4 {
			return errors.New("no table yet")
		}
		return nil
	})
	b.guard()
	var all []*tracing
	for range 2 {
		all = append(all, b.begin("web db:5432"), b.begin("web {out}:80"))
	}
	for i, x := range all {
		if verdict := x.end(t); verdict != []string{"arrives", "lost"}[i%2] {
			t.Errorf("beside others: %s", x.out.String())
		}
	}
	must(t, b.Script("nft flush ruleset"))
	if n := b.tables("db"); n != 4 {
		t.Errorf("%d tables of the trace that waits, want 4", n)
	}
	b.does("reload")
	_, err := b.outside.Ask(sandbox.HostAddr4 + ":8080")
	must(t, err)
	if verdict := long.end(t); verdict != "arrives" {
		t.Errorf("that waited: %s", long.out.String())
	}
}
