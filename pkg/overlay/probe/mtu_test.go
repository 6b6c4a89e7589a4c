package probe

import "testing"

// TestSmallMTU has a router on the way whose next cable takes 1400 bytes.
func TestSmallMTU(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		six     bool
		options string
		state   State
		mtu     int
		back    int // from b, whose packets the router's small end drops without a word
	}{
		// The router fragments the outer packet, and the peer joins it again.
		{"DF unset", false, "df unset", OK, 1450, 1354},
		{"DF set", false, "df set", SmallMTU, 1350, 1354},
		{"DF inherited", false, "df inherit", SmallMTU, 1350, 1354},
		// IPv6 routers never fragment.
		{"IPv6 underlay", true, "", SmallMTU, 1330, 1334},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t, underlay{six: test.six, options: test.options, cable: routed(1400)})
			a.listen(t)
			b.listen(t)
			for _, f := range families {
				expect(t, a, a.target(b, f.index), test.state, test.mtu)
			}
			// What these have taught the kernel about the path does not matter.
			expect(t, a, a.target(b, 0), test.state, test.mtu)
			expect(t, b, b.target(a, 0), SmallMTU, test.back)
		})
	}
}

// TestRouteMTU: what is set on the route as a remedy does not hide that the path has
// become better.
func TestRouteMTU(t *testing.T) {
	t.Parallel()
	a, b := pair(t, underlay{options: "df inherit"})
	b.listen(t)
	a.ip(t, `
		route replace 10.42.2.0/24 via 10.42.2.0 dev vxlan42 onlink mtu 1350
		route replace fd00:42:0:2::/64 via fd00:42:0:2:: dev vxlan42 onlink mtu 1350
		route add unreachable 10.42.0.0/16 metric 4278198272
		route add unreachable fd00:42::/48 metric 4278198272`)
	for _, f := range families {
		expect(t, a, a.target(b, f.index), OK, 1450)
	}
}

// TestDeviceMTU: more is asked for than the device takes.
func TestDeviceMTU(t *testing.T) {
	t.Parallel()
	a, b := pair(t, underlay{})
	b.listen(t)
	for _, f := range families {
		target := a.target(b, f.index)
		target.MTU = 1600
		expect(t, a, target, SmallMTU, 1450)
	}
}
