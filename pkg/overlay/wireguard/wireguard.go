// Package wireguard carries encrypted overlay networks: for each network a WireGuard
// device, of the kernel where it has WireGuard, else of a process in user space
// ([Serve]). The blocks of a peer are its AllowedIPs, so that what comes out of the device
// with an address of a block was sent by the host that owns it.
//
// A [Tunnel] is told what is wanted, as [vxlan.Plane] is, which makes addresses, routes and
// what else a device has in common with VXLAN's.
package wireguard

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/overlay/vxlan"
	"golang.org/x/sys/unix"
)

// keepalive is how often each peer is sent something, in seconds: sessions are there
// before the first packet, and a host whose device was made anew is heard at once.
const keepalive = 25

// turn is how long the host of a pair whose public key is the larger one leaves it to the
// other to begin. Where both begin at the same time, each drops what it began for what the
// other did, and nothing comes of either for 5 s (handshake_response in
// drivers/net/wireguard/noise.c wants the state that its own initiation left).
const turn = 150 * time.Millisecond

// Tunnel is the device of one network. It implements [vxlan.Tunnel].
type Tunnel struct {
	// Command starts the process in user space, which calls [Serve] with the name of the
	// device that is appended; where the kernel has no WireGuard.
	Command []string
	// UserSpace has such a process have the device whatever the kernel has.
	UserSpace bool

	private   Key
	public    Key
	preshared Key // zero: none
	port      int
	added     map[Key]time.Time      // when peers came that are not begun with yet
	kind      string                 // of the link, as it was last seen
	silent    int                    // questions since the last answer
	endpoints map[Key]netip.AddrPort // as they were last set
	moved     map[Key]received       // of peers that have another endpoint
}

// Set says by which key and on which UDP port the host takes part, and the network's
// pre-shared key, zero for none. [vxlan.Plane.Sync] makes it so.
func (t *Tunnel) Set(private, preshared Key, port int) {
	t.private, t.public, t.preshared, t.port = private, private.Public(), preshared, port
}

// Waits tells how long it takes until [vxlan.Plane.Sync] has something more to do, which
// is to begin with peers whose turn it was; 0: it has not.
func (t *Tunnel) Waits() time.Duration {
	if len(t.added) == 0 {
		return 0
	}
	return turn
}

// Kind is of [vxlan.Tunnel].
func (t *Tunnel) Kind() string { return "WireGuard" }

// LinkKinds is of [vxlan.Tunnel].
func (t *Tunnel) LinkKinds() []string { return []string{kernelKind, tunKind} }

// state is what a device has.
type state struct {
	private Key
	port    int
	peers   map[Key]peer
}

type peer struct {
	preshared Key
	endpoint  netip.AddrPort
	keepalive int // seconds
	allowed   []netip.Prefix
	handshake time.Time // the last one
	received  int64     // bytes
}

// change is what to change of a device. Peers come in order.
type change struct {
	private *Key
	port    int // 0: as it is
	peers   []peerChange
}

type peerChange struct {
	key       Key
	remove    bool
	preshared *Key
	endpoint  netip.AddrPort // invalid: as it is
	keepalive int            // 0: as it is
	add, drop []netip.Prefix
	allowed   []netip.Prefix // what is left of both
}

func (c *change) empty() bool { return c.private == nil && c.port == 0 && len(c.peers) == 0 }

// configurer reads and changes devices.
type configurer interface {
	get(name string) (*state, error)
	set(name string, c *change) error
}

func (t *Tunnel) configurer() configurer {
	if t.kind == kernelKind {
		return kernel{}
	}
	return userspace{}
}

// silences is how many questions in a row a process may leave without an answer.
const silences = 3

// Works is of [vxlan.Tunnel]. A process that is late may be on a host that has too much to
// do, and carries packets yet: its sessions are not given up for that. One that is stopped
// carries none.
func (t *Tunnel) Works(name, kind string) bool {
	if !slices.Contains(t.LinkKinds(), kind) {
		return false
	}
	t.kind = kind
	_, err := t.configurer().get(name)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.silent = 0
		return err == nil
	}
	t.silent++
	return t.silent < silences && !stopped(name)
}

// Sync is of [vxlan.Tunnel].
func (t *Tunnel) Sync(name string, peers []vxlan.TunnelPeer) (int, error) {
	have, err := t.configurer().get(name)
	if err != nil {
		return 0, err
	}
	wanted, refused := t.distinct(peers)
	c := &change{}
	if have.private != t.private {
		c.private = &t.private
		// What was agreed with peers by the key before is void: they are made anew.
		for key := range have.peers {
			c.peers = append(c.peers, peerChange{key: key, remove: true})
			t.forget(key)
		}
		clear(have.peers)
	}
	if have.port != t.port {
		c.port = t.port
	}
	for key := range have.peers {
		if wanted[key] == nil {
			c.peers = append(c.peers, peerChange{key: key, remove: true})
			t.forget(key)
		}
	}
	for key, p := range wanted {
		if d, differs := t.difference(have.peers, key, p); differs {
			c.peers = append(c.peers, d)
		}
	}
	if c.empty() {
		return 0, refused
	}
	n := len(c.peers)
	if c.private != nil || c.port != 0 {
		n++
	}
	return n, errors.Join(refused, t.apply(name, c))
}

// distinct are the peers by key. Of two that say the same one the first by name has it:
// it is not known whose it is, and one who copied it cannot use it.
func (t *Tunnel) distinct(peers []vxlan.TunnelPeer) (map[Key]*vxlan.TunnelPeer, error) {
	var errs []error
	all := map[Key]*vxlan.TunnelPeer{}
	for _, p := range slices.SortedFunc(slices.Values(peers), func(a, b vxlan.TunnelPeer) int { return cmp.Compare(a.Name, b.Name) }) {
		switch other := all[p.Key]; {
		case Key(p.Key) == t.public:
			errs = append(errs, fmt.Errorf("peer %q: its public key is this host's own", p.Name))
		case other != nil:
			errs = append(errs, fmt.Errorf("peer %q: its public key is that of %q", p.Name, other.Name))
		default:
			all[p.Key] = &p
		}
	}
	return all, errors.Join(errs...)
}

// difference is what to change of a peer. An endpoint is set when another one is wanted
// than before, not when the peer has moved: WireGuard follows a host that is
// authenticated sooner than the store can tell. But where two hosts have followed each
// other to addresses that are gone since, neither hears the other any more.
func (t *Tunnel) difference(have map[Key]peer, key Key, p *vxlan.TunnelPeer) (d peerChange, differs bool) {
	d = peerChange{key: key, allowed: p.Blocks}
	is, known := have[key]
	if is.preshared != t.preshared {
		d.preshared, differs = &t.preshared, true
	}
	endpoint := netip.AddrPortFrom(p.Underlay, uint16(t.port))
	lost := known && t.strayed(key, &is, endpoint)
	if !known || t.endpoints[key] != endpoint && is.endpoint != endpoint || !is.endpoint.IsValid() || lost {
		d.endpoint, differs = endpoint, true
	} else {
		t.note(key, endpoint)
	}
	if is.keepalive != keepalive && t.ourTurn(key) {
		d.keepalive, differs = keepalive, true
	}
	for _, b := range p.Blocks {
		if !slices.Contains(is.allowed, b) {
			d.add, differs = append(d.add, b), true
		}
	}
	for _, b := range is.allowed {
		if !slices.Contains(p.Blocks, b) {
			d.drop, differs = append(d.drop, b), true
		}
	}
	return d, differs
}

// quiet is how long a peer that is reached may say nothing: longer than its keepalive.
const quiet = (keepalive + 5) * time.Second

// strayed tells whether a peer has moved away from its endpoint and was not heard since.
func (t *Tunnel) strayed(key Key, is *peer, endpoint netip.AddrPort) bool {
	if is.endpoint == endpoint {
		delete(t.moved, key)
		return false
	}
	last, ok := t.moved[key]
	if !ok || last.bytes != is.received {
		if t.moved == nil {
			t.moved = map[Key]received{}
		}
		t.moved[key] = received{is.received, time.Now()}
		return false
	}
	return time.Since(last.at) > quiet
}

// ourTurn tells whether to begin with a peer, which is what a keepalive does.
func (t *Tunnel) ourTurn(key Key) bool {
	since, waits := t.added[key]
	if bytes.Compare(t.public[:], key[:]) < 0 || waits && time.Since(since) >= turn {
		delete(t.added, key)
		return true
	}
	if !waits {
		if t.added == nil {
			t.added = map[Key]time.Time{}
		}
		t.added[key] = time.Now()
	}
	return false
}

func (t *Tunnel) apply(name string, c *change) error {
	// A block that moves is taken from its last owner, as far as that is known here,
	// before another one has it.
	slices.SortStableFunc(c.peers, func(a, b peerChange) int { return cmp.Compare(len(a.add), len(b.add)) })
	err := t.configurer().set(name, c)
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("UDP port %d is another program's on this host (ss -lunp tells whose): %w", c.port, err)
	}
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	for _, p := range c.peers {
		if p.endpoint.IsValid() {
			t.note(p.key, p.endpoint)
		}
	}
	return nil
}

func (t *Tunnel) forget(key Key) {
	delete(t.endpoints, key)
	delete(t.added, key)
	delete(t.moved, key)
}

func (t *Tunnel) note(key Key, endpoint netip.AddrPort) {
	if t.endpoints == nil {
		t.endpoints = map[Key]netip.AddrPort{}
	}
	t.endpoints[key] = endpoint
}

// received is what a device had had of a peer at a time.
type received struct {
	bytes int64
	at    time.Time
}

// Put is of [vxlan.Tunnel].
func (t *Tunnel) Put(name string, p vxlan.TunnelPeer) error {
	if Key(p.Key) == t.public {
		return fmt.Errorf("peer %q: its public key is this host's own", p.Name)
	}
	have, err := t.configurer().get(name)
	if err != nil {
		return err
	}
	d, differs := t.difference(have.peers, p.Key, &p)
	if !differs {
		return nil
	}
	return t.apply(name, &change{peers: []peerChange{d}})
}

// Drop is of [vxlan.Tunnel].
func (t *Tunnel) Drop(name string, key [32]byte) error {
	t.forget(key)
	return t.apply(name, &change{peers: []peerChange{{key: key, remove: true}}})
}

// Heard is what a device has had of a peer.
type Heard struct {
	Handshake time.Time // the last one; zero: none by the keys of now
	Bytes     int64     // received, also of what is only there to keep a session
}

// Heard says what the device has had of each peer, by key.
func (t *Tunnel) Heard(name string) (map[Key]Heard, error) {
	if t.kind == "" { // it was made before
		if err := t.look(name); err != nil {
			return nil, err
		}
	}
	have, err := t.configurer().get(name)
	if err != nil {
		return nil, err
	}
	all := make(map[Key]Heard, len(have.peers))
	for key, p := range have.peers {
		all[key] = Heard{p.handshake, p.received}
	}
	return all, nil
}
