package overlay

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	model "github.com/berth-cni/berth/pkg/overlay"
)

// secretFile is where a host has the pre-shared key of blue.
func secretFile() string { return filepath.Join(model.DefaultDataDir, "wireguard", "blue.psk") }

// TestEncryptedPreshared has two hosts given a pre-shared key under traffic, which loses
// nothing. One with another key reaches nobody and is reached by nobody, nor is one whose
// key others may read; with the right one it works again.
func TestEncryptedPreshared(t *testing.T) {
	b := newBed(t, 2, options{create: encrypted})
	one, two := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two")
	b.reaches(one, two)
	def := b.definition(b.Hosts[0], "blue")
	device := def.Device()
	give := func(key cluster.TunnelKey, mode os.FileMode, hosts ...*cluster.Host) {
		t.Helper()
		for _, h := range hosts {
			must(t, h.Do(func() error {
				text := base64.StdEncoding.EncodeToString(key) + "\n"
				return errors.Join(os.WriteFile(secretFile(), []byte(text), mode), os.Chmod(secretFile(), mode))
			}))
		}
	}
	has := func(key cluster.TunnelKey, hosts ...*cluster.Host) {
		t.Helper()
		b.eventually(patience, func() error {
			for _, h := range hosts {
				got, err := h.TunnelSetting(device, "preshared_key")
				if want := []string{hex.EncodeToString(key)}; err != nil || !slices.Equal(got, want) {
					return fmt.Errorf("pre-shared key of %s: %v (%v)", h.Name, got, err)
				}
			}
			return nil
		})
	}
	// What was agreed before stays in use for two minutes, but for a device that is new.
	anew := func(h *cluster.Host) {
		t.Helper()
		must(t, h.Script("ip link del "+device))
		b.settled()
	}
	silent := func(what string) {
		t.Helper()
		flows := startFlows(t, one, two)
		time.Sleep(500 * time.Millisecond)
		for _, f := range flows {
			if r := f.Stop(); r.Received != 0 || r.Sent == 0 {
				t.Errorf("%s: %v", what, r)
			}
		}
	}
	works := func() {
		t.Helper()
		b.eventually(15*time.Second, func() error { return errors.Join(reach(one, two), reach(two, one)) })
	}
	secret, other := cluster.NewTunnelKey(), cluster.NewTunnelKey()

	flows := startFlows(t, one, two)
	give(secret, 0o600, b.Hosts...)
	has(secret, b.Hosts...)
	complete(t, "a pre-shared key", flows)
	anew(b.Hosts[0])
	works()

	tap, err := b.Tap(nil, subnets...)
	must(t, err)
	give(other, 0o600, b.Hosts[0])
	has(other, b.Hosts[0])
	anew(b.Hosts[0])
	has(other, b.Hosts[0])
	silent("another pre-shared key")
	if r := tap.Stop(); r.Marked+r.Inner > 0 {
		t.Errorf("another pre-shared key: on the wire: %v", r)
	}

	give(secret, 0o644, b.Hosts[0])
	const words = "others may have read it"
	b.eventually(patience, func() error {
		if out, _ := b.doctor(b.Hosts[0]); !strings.Contains(out, words) {
			return fmt.Errorf("doctor says nothing of %q: %s", words, out)
		}
		return nil
	})
	silent("a pre-shared key that others may read")

	give(secret, 0o600, b.Hosts[0])
	has(secret, b.Hosts[0])
	works()
	b.eventually(patience, func() error {
		if out, _ := b.doctor(b.Hosts[0]); strings.Contains(out, words) {
			return fmt.Errorf("doctor: %s", out)
		}
		return nil
	})
	for _, h := range b.Hosts {
		must(t, h.Do(func() error { return os.Remove(secretFile()) }))
	}
	has(make(cluster.TunnelKey, 32), b.Hosts...)
	anew(b.Hosts[1])
	works()
}

// TestEncryptedIPTables has iptables be the hosts' firewall: containers reach each other
// with their own addresses, also by the second devices of a rotation, and nothing is in the
// clear, which nftables sees to with either.
func TestEncryptedIPTables(t *testing.T) {
	b := newBed(t, 2, options{create: encrypted, firewall: "iptables"})
	one, two := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two")
	b.reaches(one, two)
	tap, err := b.Tap(nil, subnets...)
	must(t, err)
	flows := startFlows(t, one, two)
	done := b.rotate(b.Hosts[0])
	b.eventually(patience, func() error {
		out, err := b.Hosts[1].Output("ip", "route")
		if err != nil || !strings.Contains(out, "dev "+b.nextDevice()) {
			return fmt.Errorf("no route by the second device: %s (%v)", out, err)
		}
		return nil
	})
	b.reaches(one, two)
	done()
	for _, f := range flows {
		if r := f.Stop(); r.Lost() != 0 || r.Twice != 0 || r.Err != nil || len(r.Sources) != 1 || !slices.Contains(slices.Concat(one.addrs, two.addrs), r.Sources[0]) {
			t.Errorf("a flow: %v", r)
		}
	}
	if r := tap.Stop(); r.Marked+r.Inner > 0 || r.Frames < 1000 {
		t.Errorf("on the wire: %v", r)
	}
	b.reaches(one, two)
}
