package overlay

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	model "github.com/berth-cni/berth/pkg/overlay"
)

// TestEncryptedKeyFile: a key that cannot be used is named with what mends it, and that
// mends it, without a restart.
func TestEncryptedKeyFile(t *testing.T) {
	b := newBed(t, 2, options{create: encrypted})
	one, two := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two")
	h, path := b.Hosts[0], model.DefaultDataDir+"/wireguard/private.key"
	a := b.agents[h]
	for name, damage := range map[string]func() error{
		"open":    func() error { return os.Chmod(path, 0o644) },
		"garbage": func() error { return os.WriteFile(path, []byte("garbage\n"), 0o600) },
	} {
		must(t, a.Stop())
		must(t, h.Do(damage))
		must(t, a.Launch())
		b.says(h, "else rm "+path)
		b.says(b.Hosts[1], "no public key is known of "+h.Name)
		mend := "chmod 600 " + path
		if name == "garbage" {
			mend = "rm " + path
		}
		must(t, h.Script(mend))
		b.eventually(2*patience, func() error { return errors.Join(a.Probe("readyz"), reach(one, two)) })
		b.reaches(one, two)
	}
}

// TestEncryptedStrayed: two hosts talk by other addresses for a while, and WireGuard follows
// both. Once these are gone, the hosts find each other again where the store has them.
func TestEncryptedStrayed(t *testing.T) {
	b := newBed(t, 2, options{create: encrypted})
	one, two := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two")
	device, hosts := b.definition(b.Hosts[0], "blue"), b.Hosts
	other := []string{"192.168.88.1", "192.168.88.2"}
	for i, h := range hosts {
		must(t, h.Script(fmt.Sprintf(`
			ip addr add %s/24 dev eth0
			ip route add %s via %s src %s dev eth0 onlink`, other[i], hosts[1-i].Addr4, other[1-i], other[i])))
	}
	for i, h := range hosts {
		b.eventually(patience, func() error {
			got, err := h.TunnelSetting(device.Device(), "endpoint")
			if err == nil && !strings.HasPrefix(fmt.Sprint(got), "["+other[1-i]+":") {
				err = fmt.Errorf("%s sends to %v", h.Name, got)
			}
			return errors.Join(err, reach(one, two), reach(two, one))
		})
	}
	for i, h := range hosts {
		must(t, h.Script(fmt.Sprintf(`
			ip route del %s
			ip addr del %s/24 dev eth0`, hosts[1-i].Addr4, other[i])))
	}
	t.Logf("reached again after %v", b.eventually(6*patience, func() error { return reach(one, two) }))
	b.reaches(one, two)
}
