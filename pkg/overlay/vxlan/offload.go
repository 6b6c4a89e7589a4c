package vxlan

import (
	"fmt"

	"github.com/safchain/ethtool"
)

// txChecksum is the feature of a VXLAN device that `ethtool -K DEVICE tx` is about: the
// checksums of the inner packets are left to whoever is below it. Off takes segmentation
// offload with it, which comes back with on (netdev_fix_features in net/core/dev.c).
const txChecksum = "tx-checksum-ip-generic"

// setOffload switches checksum offload of a device in the calling thread's namespace,
// and tells whether that changed anything.
func setOffload(device string, on bool) (bool, error) {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return false, fmt.Errorf("checksum offload of %s: %w", device, err)
	}
	defer e.Close()
	have, err := e.Features(device)
	if err == nil && have[txChecksum] == on {
		return false, nil
	}
	if err == nil {
		err = e.Change(device, map[string]bool{txChecksum: on})
	}
	if err != nil {
		return false, fmt.Errorf("checksum offload of %s: %w", device, err)
	}
	return true, nil
}
