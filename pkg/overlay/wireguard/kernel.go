package wireguard

import (
	"net"
	"net/netip"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// kernelKind is the kind of a device of the kernel's (drivers/net/wireguard, 5.6).
const kernelKind = "wireguard"

// kernel speaks to devices of the kernel's, by generic netlink.
type kernel struct{}

func (kernel) get(name string) (*state, error) {
	c, err := wgctrl.New()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	d, err := c.Device(name)
	if err != nil {
		return nil, err
	}
	s := &state{private: Key(d.PrivateKey), port: d.ListenPort, peers: make(map[Key]peer, len(d.Peers))}
	for _, p := range d.Peers {
		is := peer{preshared: Key(p.PresharedKey), keepalive: int(p.PersistentKeepaliveInterval / time.Second), handshake: p.LastHandshakeTime, received: p.ReceiveBytes}
		if p.Endpoint != nil {
			at := p.Endpoint.AddrPort()
			is.endpoint = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
		}
		for _, n := range p.AllowedIPs {
			addr, _ := netip.AddrFromSlice(n.IP)
			bits, _ := n.Mask.Size()
			is.allowed = append(is.allowed, netip.PrefixFrom(addr.Unmap(), bits))
		}
		s.peers[Key(p.PublicKey)] = is
	}
	return s, nil
}

func (kernel) set(name string, ch *change) error {
	c, err := wgctrl.New()
	if err != nil {
		return err
	}
	defer c.Close()
	var conf wgtypes.Config
	if ch.private != nil {
		k := wgtypes.Key(*ch.private)
		conf.PrivateKey = &k
	}
	if ch.port != 0 {
		conf.ListenPort = &ch.port
	}
	for _, p := range ch.peers {
		conf.Peers = append(conf.Peers, p.config())
	}
	return c.ConfigureDevice(name, conf)
}

// config is the change of a peer as the kernel takes it. To take one AllowedIP away it
// needs 6.16: all are set anew then, and a packet of the peer's may be lost.
func (p *peerChange) config() wgtypes.PeerConfig {
	conf := wgtypes.PeerConfig{PublicKey: wgtypes.Key(p.key), Remove: p.remove}
	if p.preshared != nil {
		k := wgtypes.Key(*p.preshared)
		conf.PresharedKey = &k
	}
	if p.endpoint.IsValid() {
		conf.Endpoint = net.UDPAddrFromAddrPort(p.endpoint)
	}
	if p.keepalive != 0 {
		every := time.Duration(p.keepalive) * time.Second
		conf.PersistentKeepaliveInterval = &every
	}
	add := p.add
	if len(p.drop) > 0 {
		conf.ReplaceAllowedIPs, add = true, p.allowed
	}
	for _, b := range add {
		conf.AllowedIPs = append(conf.AllowedIPs, net.IPNet{IP: b.Addr().AsSlice(), Mask: net.CIDRMask(b.Bits(), b.Addr().BitLen())})
	}
	return conf
}
