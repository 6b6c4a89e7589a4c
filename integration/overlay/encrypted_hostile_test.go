package overlay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	model "github.com/berth-cni/berth/pkg/overlay"
)

// isData tells frames that carry WireGuard's packets of data (type 4) to a port over IPv4.
func isData(port int) func([]byte) bool {
	const ip, udp, payload = 14, 14 + 20, 14 + 20 + 8
	return func(f []byte) bool {
		return len(f) > payload && f[12] == 8 && f[13] == 0 && f[ip+9] == 17 && int(binary.BigEndian.Uint16(f[udp+2:])) == port && f[payload] == 4
	}
}

// TestEncryptedForged has others send what looks as if it came from a container of an
// encrypted network. Docker's accepted packets without encryption, of VXLAN
// (CVE-2023-28840) and as they are (CVE-2023-28842).
func TestEncryptedForged(t *testing.T) {
	b := newBed(t, 3, options{create: encrypted})
	one, two, three := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two"), b.container(b.Hosts[2], "three")
	b.reaches(one, two, three)
	target, err := b.Hosts[0].Peer("blue", false)
	must(t, err)
	arrive := func(from cluster.Place) cluster.FlowReport {
		t.Helper()
		f, err := cluster.StartFlow(from, one, one.addrs[0], 10*time.Millisecond)
		must(t, err)
		time.Sleep(500 * time.Millisecond)
		return f.Stop()
	}
	n := b.definition(b.Hosts[0], "blue")

	plain := func(t *testing.T) {
		x, err := b.Host("x", 66)
		must(t, err)
		must(t, x.Script(fmt.Sprintf("ip addr add %[1]s/32 dev lo\nip route add %[2]s via %[3]s dev eth0 src %[1]s", two.addrs[0], target.Blocks[0], target.Address)))
		if r := arrive(x); r.Received != 0 || r.Sent < 30 {
			t.Errorf("without encryption: %v", r)
		}
		// They would arrive, but for the rule.
		b.agents[b.Hosts[0]].Kill()
		must(t, b.Hosts[0].Script("nft flush ruleset"))
		if r := arrive(x); r.Received == 0 {
			t.Errorf("without encryption nor rule: %v", r)
		}
		must(t, b.agents[b.Hosts[0]].Start())
		b.settled()
		b.eventually(patience, func() error {
			if r := arrive(x); r.Received != 0 {
				return fmt.Errorf("without encryption, with an agent again: %v", r)
			}
			return nil
		})
		b.reaches(one, two)
	}
	t.Run("plain packets, CVE-2023-28842", plain)

	t.Run("VXLAN packets, CVE-2023-28840", func(t *testing.T) {
		forged := n
		forged.Encrypted, forged.ListenPort, forged.Port = false, 0, model.DefaultPort
		posed, err := b.Hosts[1].Peer("blue", false)
		must(t, err)
		y, err := b.Host("y", 67)
		must(t, err)
		posed.Address = y.Addr4
		must(t, y.ByHand(forged, posed, []cluster.Peer{target}))
		c, _, err := y.ContainerByHand(forged, posed, "stranger", 1)
		must(t, err)
		if r := arrive(c); r.Received != 0 || r.Sent < 30 {
			t.Errorf("VXLAN: %v", r)
		}
	})

	t.Run("replayed packets", func(t *testing.T) {
		f, err := cluster.StartFlow(two, one, one.addrs[0], 5*time.Millisecond)
		must(t, err)
		tap, err := b.Tap(isData(n.ListenPort))
		must(t, err)
		time.Sleep(300 * time.Millisecond)
		kept := tap.Stop().Kept
		for _, from := range []*cluster.Host{b.Hosts[1], b.Hosts[2]} {
			must(t, from.Send(kept...))
		}
		time.Sleep(200 * time.Millisecond)
		if r := f.Stop(); len(kept) < 30 || r.Twice != 0 || r.Lost() != 0 {
			t.Errorf("%d packets again: %v", len(kept), r)
		}
	})

	t.Run("a member with another's address", func(t *testing.T) {
		c := b.Hosts[2]
		b.agents[c].Kill()
		must(t, c.Script(fmt.Sprintf("nft flush ruleset\nip addr add %[1]s/32 dev lo\nip route replace %[2]s dev %[3]s src %[1]s", two.addrs[0], target.Blocks[0], n.Device())))
		if r := arrive(c); r.Received != 0 || r.Sent < 30 {
			t.Errorf("from an address of another host's block: %v", r)
		}
		must(t, c.Script(fmt.Sprintf("ip addr del %s/32 dev lo", two.addrs[0])))
		must(t, b.agents[c].Start())
		b.settled()
		b.reaches(one, two, three)
	})
}

// TestEncryptedKeyless has a node without a public key own a block, as one whose agent
// knows no encrypted networks might. Nothing is sent to it, and it is named.
func TestEncryptedKeyless(t *testing.T) {
	b := newBed(t, 2, options{create: encrypted})
	one, two := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two")
	old, err := b.Host("old", 44)
	must(t, err)
	must(t, b.Hosts[0].DefaultRoute(old))
	prefix := ""
	keys, err := b.store.Keys("")
	must(t, err)
	for k := range keys {
		if before, _, ok := strings.Cut(k, "networks/blue"); ok {
			prefix = before
		}
	}
	must(t, b.store.Put(map[string]string{
		prefix + "nodes/old":                  fmt.Sprintf(`{"name": "old", "token": "x", "address": %q, "mtu": 1500}`, old.Addr4),
		prefix + "blocks/blue/10.42.200.0-24": `{"network": "blue", "prefix": "10.42.200.0/24", "node": "old", "token": "x"}`,
	}))
	b.eventually(patience, func() error {
		if s := b.status(b.Hosts[0]); strings.Join(s.Networks[0].Keyless, " ") != "old" {
			return fmt.Errorf("keyless: %v", s.Networks[0].Keyless)
		}
		return nil
	})
	if out, _ := b.doctor(b.Hosts[0]); !strings.Contains(out, "no public key is known of old") {
		t.Errorf("doctor: %s", out)
	}
	tap, err := b.Tap(nil, subnets...)
	must(t, err)
	if _, err := one.Ask("10.42.200.7:80"); err == nil || os.IsTimeout(err) {
		t.Errorf("an address of a node without a key: %v, want it refused at once", err)
	}
	b.reaches(one, two)
	if r := tap.Stop(); r.Marked+r.Inner > 0 || r.Frames == 0 {
		t.Errorf("on the wire: %v", r)
	}
}

// TestEncryptedFile runs an encrypted network on a file of peers, into which people write
// the hosts' public keys.
func TestEncryptedFile(t *testing.T) {
	b := newFileBed(t, 2)
	write := func(key func(*cluster.Host) string) {
		text := "networks:\n  blue:\n    subnets: [10.42.0.0/16, \"fd00:42::/48\"]\n    vni: 4242\n  red:\n    subnets: [10.43.0.0/16]\n    vni: 4243\n    encrypted: true\nnodes:\n"
		for _, h := range b.Hosts {
			text += fmt.Sprintf("  %s:\n    address: %s\n    publicKey: %s\n    blocks:\n      blue: [10.42.%d.0/24, \"fd00:42:0:%[4]d::/64\"]\n      red: [10.43.%[4]d.0/24]\n", h.Name, h.Addr4, key(h), h.Number)
		}
		b.replace(text)
	}
	own := func(h *cluster.Host) (key string) {
		must(t, h.Do(func() error {
			data, err := os.ReadFile(filepath.Join(model.DefaultDataDir, "wireguard", "public.key"))
			key = strings.TrimSpace(string(data))
			return err
		}))
		return key
	}
	write(own)
	b.networks = append(b.networks, "red")
	for _, h := range b.Hosts {
		b.eventually(patience, b.network(h, "red").Status)
	}
	b.settled()
	b.reaches(b.container(b.Hosts[0], "one", "red"), b.container(b.Hosts[1], "two", "red"))
	write(func(h *cluster.Host) string { return own(b.Hosts[1]) })
	b.eventually(patience, func() error {
		if log := b.agents[b.Hosts[0]].Log(); !strings.Contains(log, "the file says public key "+own(b.Hosts[1])) {
			return fmt.Errorf("a wrong key in the file: %s", log)
		}
		return nil
	})
}

// TestEncryptedBoot adds a container on a host that has booted and whose agent does not run
// yet: the network is confined by then, and nothing that the container sends leaves in the
// clear by the host's default route.
func TestEncryptedBoot(t *testing.T) {
	b := newBed(t, 2, options{create: encrypted})
	h := b.Hosts[0]
	two := b.container(b.Hosts[1], "two")
	must(t, h.DefaultRoute(b.Hosts[1]))
	n := b.definition(h, "blue")
	b.agents[h].Kill()
	must(t, h.Script("nft flush ruleset\nip route flush proto 98\nip -6 route flush proto 98\nip link del "+n.Device()))
	one := b.container(h, "one")
	tap, err := b.Tap(nil, subnets...)
	must(t, err)
	flows := startFlows(t, one, two)
	time.Sleep(500 * time.Millisecond)
	received := 0
	for _, f := range flows {
		received += f.Stop().Received
	}
	if r := tap.Stop(); r.Marked+r.Inner > 0 || received > 0 {
		t.Errorf("%d datagrams arrived; on the wire: %v", received, r)
	}
	must(t, h.Script("nft delete table inet berth_confined_"+n.Device())) // without which they would leave
	tap, err = b.Tap(nil, subnets...)
	must(t, err)
	flows = startFlows(t, one, two)
	time.Sleep(300 * time.Millisecond)
	for _, f := range flows {
		f.Stop()
	}
	if r := tap.Stop(); r.Marked == 0 {
		t.Errorf("not confined: nothing on the wire: %v", r)
	}
	must(t, b.agents[h].Start())
	b.settled()
	b.eventually(patience, func() error { return errors.Join(reach(one, two), reach(two, one)) })
}
