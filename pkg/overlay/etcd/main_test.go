package etcd

import (
	"flag"
	"testing"

	"github.com/berth-cni/berth/pkg/nstest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// These tests wait most of the time: for leases to run out, for elections.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	nstest.Main(m)
}
