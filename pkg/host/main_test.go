package host

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/host/hosttest"
	"github.com/berth-cni/berth/pkg/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// testHost is a host with two containers.
type testHost struct{ *hosttest.Host }

func newHost(t *testing.T) testHost {
	t.Helper()
	return testHost{hosttest.New(t)}
}

// collect collects what is left over, and returns what was reported, in lines.
func (w testHost) collect(o CollectOptions) (string, error) {
	w.Helper()
	o.Now, o.ConfDir = func() time.Time { return hosttest.Noon }, os.Getenv(conflist.Env)
	var out strings.Builder
	err := Collect(w.Context(), w.Store, o, func(e Event) { out.WriteString(e.String() + "\n") })
	return out.String(), err
}

// reload reloads, and returns what was reported, in lines.
func (w testHost) reload(networks ...string) (string, error) {
	w.Helper()
	var out strings.Builder
	err := Reload(w.Context(), w.Store, ReloadOptions{Networks: networks, Now: hosttest.Noon}, func(e Event) { out.WriteString(e.String() + "\n") })
	return out.String(), err
}
