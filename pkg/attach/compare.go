package attach

import (
	"bytes"
	"fmt"
	"net/netip"
)

// compare tells whether the leases and ports of a file are those of its records.
func (f *Salvage) compare(t *tree) error {
	rows := map[string]map[string][]byte{}
	for _, e := range t.entries {
		if rows[e.bucket] == nil {
			rows[e.bucket] = map[string][]byte{}
		}
		rows[e.bucket][string(e.key)] = e.value
	}
	records, leases, ports := rows[string(attachmentBucket)], rows[string(leaseBucket)], rows[string(portBucket)]
	for _, a := range f.Records {
		for _, addr := range a.Leases {
			if !bytes.Equal(leases[string(leaseKey(a.Network, addr))], a.bytes()) {
				return fmt.Errorf("address %s of %s is not among the leases", addr, a.Key)
			}
		}
		for _, p := range a.Ports {
			for _, ip := range p.HostIPs() {
				if !bytes.Equal(ports[string(portKey(p.Protocol, p.HostPort, ip))], a.bytes()) {
					return fmt.Errorf("%s of %s is not among the ports", p, a.Key)
				}
			}
		}
	}
	for row, holder := range ports {
		if records[string(holder)] == nil {
			return fmt.Errorf("port %q has the holder %q, of which there is no record", row, holder)
		}
	}
	return compareUsed(leases, rows[string(usedBucket)])
}

// compareUsed compares the bitmaps with the leases.
func compareUsed(leases, used map[string][]byte) error {
	blocks := map[string][]byte{}
	for row, holder := range leases {
		network, addr, ok := parseLeaseKey([]byte(row))
		if !ok || parseKey(holder).Network != network {
			return fmt.Errorf("lease %q has the holder %q", row, holder)
		}
		key, bit := blockKey(network, addr)
		if blocks[string(key)] == nil {
			blocks[string(key)] = make([]byte, blockLen)
		}
		blocks[string(key)][bit/8] |= 1 << (bit % 8)
	}
	if len(blocks) != len(used) {
		return fmt.Errorf("leases are in %d blocks, and %d are noted", len(blocks), len(used))
	}
	for key, block := range blocks {
		if !bytes.Equal(used[key], block) {
			return fmt.Errorf("the leases of block %q are not those that are noted", key)
		}
	}
	return nil
}

// parseLeaseKey is the inverse of leaseKey.
func parseLeaseKey(row []byte) (network string, addr netip.Addr, ok bool) {
	const zero, long = 1, 16
	n := len(row) - long - zero
	if n < 0 || row[n] != 0 {
		return "", addr, false
	}
	return string(row[:n]), netip.AddrFrom16([16]byte(row[n+zero:])).Unmap(), true
}
