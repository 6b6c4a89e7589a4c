package nodes

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// TestMain: a cluster takes minutes, and programs that take long to build. `make
// test-kubernetes` asks for it.
func TestMain(m *testing.M) {
	First()
	flag.Parse()
	if os.Getenv("BERTH_KUBERNETES") == "" {
		fmt.Println("nothing was run: `make test-kubernetes` runs these tests")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newCluster is a cluster of two nodes with Berth, as deploy/berth.yaml has it, and pods
// attached by a mode. Flags are more of the network's.
func newCluster(t *testing.T, mode string, o Options, flags ...string) *Cluster {
	t.Helper()
	image, err := BerthImage()
	must(t, err)
	manifest, err := BerthManifest(mode, flags...)
	must(t, err)
	o.Nodes, o.Images = 2, append(o.Images, image)
	c := bare(t, o)
	must(t, c.Berth(manifest))
	must(t, c.DNS())
	return c
}

// bare is a cluster without a network.
func bare(t *testing.T, o Options) *Cluster {
	t.Helper()
	c, err := New(o)
	must(t, err)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}
