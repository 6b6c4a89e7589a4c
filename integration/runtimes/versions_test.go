package runtimes

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a conflist says of its version, and the version that each runtime then asks
// the plugins for; none: it refuses the result. containerd 1.6 and podman 4 know no
// cniVersions; of containerd 2 it is the last word.
var versions = []struct {
	head  string
	asked map[string]string
}{
	{`"cniVersion": "1.0.0"`, map[string]string{"containerd1": "1.0.0", "containerd2": "1.0.0", "podman": "1.0.0"}},
	{`"cniVersion": "1.1.0"`, map[string]string{"containerd2": "1.1.0"}},
	{`"cniVersions": ["1.0.0", "1.1.0"]`, map[string]string{"containerd1": "0.1.0", "containerd2": "1.1.0", "podman": "0.1.0"}},
	{everyVersion, map[string]string{"containerd1": "1.0.0", "containerd2": "1.1.0", "podman": "1.0.0"}},
}

func versioned(head string) string {
	return strings.Replace(podNetwork, everyVersion, head, 1)
}

// TestVersions tries the version lines of the README's table.
func TestVersions(t *testing.T) {
	for _, v := range versions {
		t.Run(strings.NewReplacer(`"`, "", " ", "").Replace(v.head), func(t *testing.T) {
			for _, c := range containerds {
				t.Run(c.name, func(t *testing.T) {
					d := newDaemon(t, c, versioned(v.head))
					_, err := d.runPod(t, "p", 8080)
					d.asked(t, err, v.asked[c.name])
				})
			}
			t.Run("podman", func(t *testing.T) {
				p := newPodman(t)
				p.write("net.d/pods.conflist", versioned(v.head))
				_, err := p.podman("run", "--detach", "--cgroup-parent="+p.cgroup, "--network=pods", "--publish=8080:80", image)
				p.asked(t, err, v.asked["podman"])
			})
		})
	}
}

// asked fails the test unless the container's start ended in err as wanted, and the
// result of the network pods that libcni has in its cache is of that version.
func (m *machine) asked(t testing.TB, err error, version string) {
	t.Helper()
	if version == "" {
		if err == nil || !strings.Contains(err.Error(), "unsupported CNI result version") {
			t.Errorf("want an unsupported version, got %v", err)
		}
		return
	}
	must(t, err)
	var got string
	must(t, m.Do(func() error {
		files, err := filepath.Glob("/var/lib/cni/results/pods-*")
		if err != nil || len(files) != 1 {
			return fmt.Errorf("results of pods: %q %w", files, err)
		}
		data, err := os.ReadFile(files[0])
		if err != nil {
			return err
		}
		var cached struct {
			Result struct{ CNIVersion string }
		}
		err = json.Unmarshal(data, &cached)
		got = cached.Result.CNIVersion
		return err
	}))
	if got != version {
		t.Errorf("the result is of version %q, want %s", got, version)
	}
}
