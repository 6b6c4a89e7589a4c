package doctor

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/host/hosttest"
	"github.com/berth-cni/berth/pkg/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// What [code] makes of a report.
const (
	allWell = iota
	problems
	couldNotLook
)

// testHost is a host with containers, for the doctor.
type testHost struct{ *hosttest.Host }

func newHost(t *testing.T) *testHost { return &testHost{hosttest.New(t)} }

func emptyHost(t *testing.T) *testHost { return &testHost{hosttest.Empty(t)} }

func (w *testHost) now() time.Time { return hosttest.Noon }

// outcome is 0 for no error.
func outcome(err error) int {
	if err != nil {
		return problems
	}
	return allWell
}

// gc collects what is left over, and returns what was reported, in lines.
func (w *testHost) gc(o host.CollectOptions) (code int, out string) {
	w.Helper()
	o.Now, o.ConfDir = w.now, os.Getenv("NETCONFPATH")
	err := host.Collect(w.Context(), w.Store, o, func(e host.Event) { out += e.String() + "\n" })
	return outcome(err), out
}

// reload reloads, and returns what was reported, in lines.
func (w *testHost) reload() (code int, out string) {
	w.Helper()
	err := host.Reload(w.Context(), w.Store, host.ReloadOptions{Now: w.now()}, func(e host.Event) { out += e.String() + "\n" })
	return outcome(err), out
}

func (w *testHost) config() Config {
	return Config{Records: w.Store, ConfDir: conflist.Dir(os.Getenv(conflist.Env)), PluginDirs: []string{"/nowhere"}, DataDir: os.Getenv("BERTH_DATA_DIR"), Listen: "127.0.0.1:1", Tokens: true, Now: w.now}
}

// doctor returns what is wrong, by check.
func (w *testHost) doctor(args ...string) (result int, bad map[string]string) {
	w.Helper()
	r := Diagnose(w.Context(), w.config(), slices.Contains(args, "--fix"))
	bad = map[string]string{}
	for _, c := range r.Checks {
		for _, p := range c.Problems {
			bad[c.Check] += p.What + "\n"
			if p.Why == "" || p.Mend == "" {
				w.Errorf("%s: no why, or no mend: %+v", c.Check, p)
			}
		}
		if c.Error != "" {
			bad[c.Check] += c.Error + "\n"
		}
	}
	return code(r), bad
}
