package attach

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
)

// Network is what the host remembers of a network that it has seen an ADD for.
type Network struct {
	Name    string         `json:"name"`
	Plugin  string         `json:"plugin"`
	Link    string         `json:"link,omitempty"` // the bridge, or macvlan's master
	Subnets []netip.Prefix `json:"subnets,omitempty"`
	// Settings are the words that change what the firewall holds for the network.
	Settings []string `json:"settings,omitempty"`
	// Forwarded says that other firewalls on this host have been told to let the
	// network's traffic through.
	Forwarded bool `json:"forwarded,omitempty"`
}

// OverlapError: the subnet of a network overlaps that of another one.
type OverlapError struct {
	Subnet netip.Prefix
	Other  Network
	Theirs netip.Prefix
}

func (e *OverlapError) Error() string {
	return fmt.Sprintf("subnet %s overlaps %s of network %q on %s", e.Subnet, e.Theirs, e.Other.Name, e.Other.Link)
}

// Network returns the network of that name; false when the host does not know it.
func (t *Tx) Network(name string) (Network, bool) {
	var n Network
	data := t.bucket(networkBucket).Get([]byte(name))
	if data == nil || json.Unmarshal(data, &n) != nil {
		return n, false
	}
	return n, true
}

// Networks returns all networks, in the order of their names.
func (t *Tx) Networks() ([]Network, error) {
	var all []Network
	err := t.bucket(networkBucket).ForEach(func(name, data []byte) error {
		var n Network
		if err := json.Unmarshal(data, &n); err != nil {
			return fmt.Errorf("decode network %s: %w", name, err)
		}
		all = append(all, n)
		return nil
	})
	return all, err
}

// EnsureNetwork remembers a network. changed reports that it was known with other
// settings, known what the host remembered of it. An [*OverlapError] when one of
// its subnets is also another network's on another link.
func (t *Tx) EnsureNetwork(n Network) (known Network, changed bool, err error) {
	known, ok := t.Network(n.Name)
	n.Forwarded = known.Forwarded && known.Link == n.Link
	data, err := json.Marshal(n)
	if err != nil {
		return known, false, err
	}
	if ok && bytes.Equal(data, t.bucket(networkBucket).Get([]byte(n.Name))) {
		return known, false, nil
	}
	others, err := t.Networks()
	if err != nil {
		return known, false, err
	}
	for _, o := range others {
		if o.Name == n.Name || o.Link == n.Link {
			continue
		}
		for _, mine := range n.Subnets {
			for _, theirs := range o.Subnets {
				if mine.Overlaps(theirs) {
					return known, false, &OverlapError{mine, o, theirs}
				}
			}
		}
	}
	return known, ok, t.PutNetwork(n)
}

// PutNetwork writes what the host remembers of a network.
func (t *Tx) PutNetwork(n Network) error {
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return t.bucket(networkBucket).Put([]byte(n.Name), data)
}

// ForgetNetwork removes a network from the host's memory.
func (t *Tx) ForgetNetwork(name string) error {
	return t.bucket(networkBucket).Delete([]byte(name))
}
