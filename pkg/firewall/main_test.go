package firewall

import (
	"flag"
	"os"
	"slices"
	"testing"

	"github.com/berth-cni/berth/pkg/nstest"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-test.fuzzworker") {
		os.Exit(m.Run()) // it was started inside the sandbox
	}
	nstest.Main(m)
}
