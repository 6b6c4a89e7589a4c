package firewall

import (
	"bytes"
	"fmt"

	"github.com/berth-cni/berth/pkg/firewall/allow"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"golang.org/x/sys/unix"
)

// MoveNames has what containers ask for names redirected to another port than
// [allow.NamesPort], or to that one again. Nothing is done where that is so, or where
// nothing of ours is. With the backend iptables it is always that one.
func MoveNames(port uint16) error {
	s, err := dial()
	if err != nil {
		return err
	}
	there, err := s.List(namesPorts)
	switch {
	case nftnl.Absent(err):
		return nil
	case err != nil:
		return fmt.Errorf("list %s: %w", namesPorts, err)
	}
	var wanted []nftnl.Element
	if port != allow.NamesPort {
		for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			wanted = append(wanted, nftnl.Element{Set: namesPorts, Key: []byte{proto}, Value: nftnl.Port(port), Lasting: true})
		}
	}
	var surplus []nftnl.Element
	for _, e := range there {
		if len(wanted) == 0 || !bytes.Equal(e.Value, wanted[0].Value) {
			surplus = append(surplus, nftnl.Element{Set: namesPorts, Key: e.Key, Lasting: true})
		}
	}
	if err := s.Remove(surplus); err != nil {
		return err
	}
	return s.Write(wanted)
}
