package overlay

import (
	"errors"
	"os"
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
