package wireguard

import (
	"bufio"
	"cmp"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tunKind is the kind of a device that a process in user space has.
const tunKind = "tun"

// userspace speaks to the process that has a device, by WireGuard's cross-platform
// configuration protocol (https://www.wireguard.com/xplatform/).
type userspace struct{}

// socketDir is where wg(8) looks for the sockets of such processes.
const socketDir = "/var/run/wireguard"

func socketPath(name string) string { return filepath.Join(socketDir, name+".sock") }

// patience is how long a process has for one question: one that is stopped never answers.
const patience = 2 * time.Second

func dial(name string) (net.Conn, error) {
	conn, err := net.DialTimeout("unix", socketPath(name), patience)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(patience))
}

func (userspace) get(name string) (*state, error) {
	conn, err := dial(name)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "get=1\n\n"); err != nil {
		return nil, err
	}
	return parse(conn)
}

func (userspace) set(name string, c *change) error {
	conn, err := dial(name)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, c.text()); err != nil {
		return err
	}
	_, err = parse(conn)
	return err
}

// text is a change as the process takes it.
func (c *change) text() string {
	var b strings.Builder
	line := func(key string, value any) { fmt.Fprintf(&b, "%s=%v\n", key, value) }
	secret := func(key string, k Key) { line(key, hex.EncodeToString(k[:])) }
	line("set", 1)
	if c.private != nil {
		secret("private_key", *c.private)
	}
	if c.port != 0 {
		line("listen_port", c.port)
	}
	for _, p := range c.peers {
		secret("public_key", p.key)
		if p.remove {
			line("remove", true)
			continue
		}
		if p.preshared != nil {
			secret("preshared_key", *p.preshared)
		}
		if p.endpoint.IsValid() {
			line("endpoint", p.endpoint)
		}
		if p.keepalive != 0 {
			line("persistent_keepalive_interval", p.keepalive)
		}
		for _, b := range p.drop {
			line("allowed_ip", "-"+b.String())
		}
		for _, b := range p.add {
			line("allowed_ip", b)
		}
	}
	b.WriteByte('\n')
	return b.String()
}

// parse reads an answer, up to its empty line.
func parse(r io.Reader) (*state, error) {
	s := &state{peers: map[Key]peer{}}
	var key Key
	var p *peer
	keep := func() {
		if p != nil {
			s.peers[key] = *p
		}
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), "=")
		var err error
		switch {
		case name == "errno":
			if n, _ := strconv.Atoi(value); n != 0 {
				return nil, fmt.Errorf("the WireGuard process refused: %w", unix.Errno(max(n, -n)))
			}
			keep()
			return s, nil
		case name == "public_key":
			keep()
			p = &peer{}
			key, err = parseHex(value)
		case p == nil:
			err = s.parse(name, value)
		default:
			err = p.parse(name, value)
		}
		if err != nil {
			return nil, fmt.Errorf("answer of the WireGuard process: %s: %w", name, err)
		}
	}
	return nil, fmt.Errorf("answer of the WireGuard process: %w", cmp.Or(lines.Err(), io.ErrUnexpectedEOF))
}

func (s *state) parse(name, value string) (err error) {
	switch name {
	case "private_key":
		s.private, err = parseHex(value)
	case "listen_port":
		s.port, err = strconv.Atoi(value)
	}
	return err
}

func (p *peer) parse(name, value string) (err error) {
	switch name {
	case "preshared_key":
		p.preshared, err = parseHex(value)
	case "endpoint":
		p.endpoint, err = netip.ParseAddrPort(value)
	case "persistent_keepalive_interval":
		p.keepalive, err = strconv.Atoi(value)
	case "allowed_ip":
		var b netip.Prefix
		b, err = netip.ParsePrefix(value)
		p.allowed = append(p.allowed, b)
	case "rx_bytes":
		p.received, err = strconv.ParseInt(value, 10, 64)
	case "last_handshake_time_sec":
		var seconds int64
		if seconds, err = strconv.ParseInt(value, 10, 64); seconds != 0 {
			p.handshake = time.Unix(seconds, 0)
		}
	}
	return err
}

func parseHex(s string) (k Key, err error) {
	b, err := hex.DecodeString(s)
	if err == nil && len(b) != len(k) {
		err = fmt.Errorf("%d bytes", len(b))
	}
	copy(k[:], b)
	return k, err
}
