package publish

import (
	"os"
	"slices"
	"testing"

	"github.com/berth-cni/berth/pkg/nstest"
)

func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-test.fuzzworker") {
		os.Exit(m.Run()) // it was started inside the sandbox
	}
	nstest.Main(m)
}
