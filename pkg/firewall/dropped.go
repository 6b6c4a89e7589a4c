package firewall

import (
	"errors"
	"maps"
)

// Dropped returns how many packets each of the counters has counted that nobody may
// send, since the tables were made: with both backends, since nftables has these. A
// table that is not there has none of its counters here.
func Dropped() (map[string]uint64, error) {
	all := map[string]uint64{}
	c, err := inet.Dial()
	if err != nil {
		return nil, err
	}
	layer3, err := c.Counted()
	maps.Copy(all, layer3)
	c.Table = bridgeTable
	layer2, more := c.Counted()
	for name, packets := range layer2 {
		all[name] += packets
	}
	return all, errors.Join(err, more)
}
