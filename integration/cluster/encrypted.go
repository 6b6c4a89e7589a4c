package cluster

import (
	"bufio"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
	"github.com/berth-cni/berth/pkg/overlay"
	"golang.org/x/sys/unix"
)

// wantedEncrypted is [Wanted] of a network that WireGuard carries.
func wantedEncrypted(n overlay.Network, self Peer, all []Peer) sandbox.Snapshot {
	s := sandbox.Snapshot{}
	add := func(section, format string, args ...any) {
		s[section] = append(s[section], fmt.Sprintf(format, args...))
	}
	add("link", "mtu %d up true mode none", self.MTU)
	add("sysctl", "rp_filter 2")
	add("sysctl", "accept_ra 0")
	add("peer", "listens on %d", n.ListenPort)
	for _, a := range self.nextHops() {
		add("address", "%s/%d", a, a.BitLen())
	}
	for _, subnet := range n.Subnets {
		add("route", "unreachable %s metric %d proto %d", subnet, uint32(unreachableMetric), routeProtocol)
	}
	for _, p := range all {
		if p.Name == self.Name || p.Key == "" {
			continue
		}
		var blocks []string
		for _, b := range p.Blocks {
			mtu := ""
			if p.MTU < self.MTU {
				mtu = fmt.Sprintf(" mtu %d", p.MTU)
			}
			add("route", "%s proto %d%s", b, routeProtocol, mtu)
			blocks = append(blocks, b.String())
		}
		sort.Strings(blocks)
		add("peer", "%s at %s allowed %s", p.Key, netip.AddrPortFrom(p.Address, uint16(n.ListenPort)), strings.Join(blocks, " "))
	}
	for _, lines := range s {
		sort.Strings(lines)
	}
	return s
}

// tunnelSettings are the lines in which a WireGuard device in user space says what it has.
// Nothing where there is none.
func tunnelSettings(device string) (lines []string, err error) {
	conn, err := net.Dial("unix", filepath.Join(tunnelSockets, device+".sock"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Write([]byte("get=1\n\n")); err != nil {
		return nil, err
	}
	answer := bufio.NewScanner(conn)
	for answer.Scan() && answer.Text() != "" {
		lines = append(lines, answer.Text())
	}
	return lines, answer.Err()
}

// TunnelSetting is what the host's WireGuard device in user space has under a name of its
// configuration protocol, such as preshared_key, once for each peer.
func (h *Host) TunnelSetting(device, name string) (values []string, err error) {
	err = h.Do(func() error {
		lines, err := tunnelSettings(device)
		for _, line := range lines {
			if value, ok := strings.CutPrefix(line, name+"="); ok {
				values = append(values, value)
			}
		}
		return err
	})
	return values, err
}

// tunnelPeers is what a WireGuard device in user space has, in the words of [Wanted].
func tunnelPeers(n overlay.Network) (lines []string, err error) {
	if !n.Encrypted {
		return nil, nil
	}
	settings, err := tunnelSettings(n.Device())
	if err != nil {
		return nil, err
	}
	var key, endpoint string
	var allowed []string
	keep := func() {
		if key != "" {
			sort.Strings(allowed)
			lines = append(lines, fmt.Sprintf("%s at %s allowed %s", key, endpoint, strings.Join(allowed, " ")))
		}
		key, endpoint, allowed = "", "", nil
	}
	for _, line := range settings {
		switch name, value, _ := strings.Cut(line, "="); name {
		case "listen_port":
			lines = append(lines, "listens on "+value)
		case "public_key":
			keep()
			raw, err := hex.DecodeString(value)
			if err != nil {
				return nil, err
			}
			key = base64.StdEncoding.EncodeToString(raw)
		case "endpoint":
			endpoint = value
		case "allowed_ip":
			allowed = append(allowed, value)
		}
	}
	keep()
	return lines, nil
}

// TunnelKey is a private key of WireGuard's.
type TunnelKey []byte

// NewTunnelKey makes one.
func NewTunnelKey() TunnelKey {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return key
}

// Public is the public key, in base64.
func (k TunnelKey) Public() string {
	private, err := ecdh.X25519().NewPrivateKey(k)
	if err != nil {
		panic(err) // it is of the right length
	}
	return base64.StdEncoding.EncodeToString(private.PublicKey().Bytes())
}

// EncryptByHand builds one node's side of a network on a WireGuard device in user space
// that is there, or about to be, with ip alone and without a firewall.
func (h *Host) EncryptByHand(n overlay.Network, key TunnelKey, self Peer, all []Peer) error {
	dev := n.Device()
	config := fmt.Sprintf("set=1\nprivate_key=%x\nlisten_port=%d\n", []byte(key), n.ListenPort)
	script := fmt.Sprintf("ip link set %s up\nip link add %s mtu %d type bridge\nip link set %[2]s up\n", dev, n.Bridge(), self.MTU)
	for _, b := range self.Blocks {
		script += fmt.Sprintf("ip addr add %s/%d dev %s%s\n", overlay.Gateway(b), b.Bits(), n.Bridge(), nodad(b))
	}
	for _, p := range all {
		if p.Name == self.Name {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(p.Key)
		if err != nil {
			return err
		}
		config += fmt.Sprintf("public_key=%x\nendpoint=%s\n", raw, netip.AddrPortFrom(p.Address, uint16(n.ListenPort)))
		for _, b := range p.Blocks {
			config += fmt.Sprintf("allowed_ip=%s\n", b)
			script += fmt.Sprintf("ip route replace %s dev %s\n", b, dev)
		}
	}
	return h.Do(func() error {
		var conn net.Conn
		err := Until(patience, func() (err error) {
			conn, err = net.Dial("unix", filepath.Join(tunnelSockets, dev+".sock"))
			return err
		})
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.Write([]byte(config + "\n")); err != nil {
			return err
		}
		answer, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || answer != "errno=0\n" {
			return fmt.Errorf("configure %s: %q (%w)", dev, answer, err)
		}
		for _, path := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			if err := os.WriteFile("/proc/sys/net/"+path, []byte("1"), 0); err != nil {
				return err
			}
		}
		return h.Script(script)
	})
}

// tunnelSockets is where processes with WireGuard devices listen.
const tunnelSockets = "/var/run/wireguard"

// Tunnels are the processes in user space that have the WireGuard devices of the calling
// thread's host, by device.
func Tunnels() map[string]int {
	all := map[string]int{}
	sockets, _ := filepath.Glob(filepath.Join(tunnelSockets, "*.sock"))
	for _, path := range sockets {
		conn, err := net.Dial("unix", path)
		if err != nil {
			continue
		}
		raw, err := conn.(*net.UnixConn).SyscallConn()
		if err == nil {
			_ = raw.Control(func(fd uintptr) {
				if owner, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
					all[strings.TrimSuffix(filepath.Base(path), ".sock")] = int(owner.Pid)
				}
			})
		}
		conn.Close()
	}
	return all
}
