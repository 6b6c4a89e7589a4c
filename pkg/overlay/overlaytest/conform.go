package overlaytest

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
)

// Backend is a store that can be written, empty at first.
type Backend struct {
	// Open returns another host's way to it, which ends with the test.
	Open func(t testing.TB) overlay.Store
	// TTL is how long a host that is gone counts as alive.
	TTL time.Duration
}

// Conform runs the tests of a store that can be written; fresh makes an empty one.
func Conform(t *testing.T, fresh func(testing.TB) Backend) {
	for name, test := range map[string]func(*testing.T, Backend){
		"networks":         networks,
		"networks at once": networksAtOnce,
		"register":         register,
		"same name":        sameName,
		"removed":          removed,
		"restart":          restart,
		"reboot":           reboot,
		"clone":            clone,
		"claim":            claim,
		"race":             race,
		"remove network":   removeNetwork,
		"remove node":      removeNode,
		"removals":         removals,
		"restore":          restore,
		"miss":             miss,
		"left":             left,
		"contexts":         contexts,
		"names":            named,
		"names' life":      namesLife,
		"names taken over": namesTakenOver,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, fresh(t))
		})
	}
}

// Net is a network with a subnet.
func Net(name, subnet string) overlay.Network {
	return overlay.Network{Name: name, Subnets: []netip.Prefix{netip.MustParsePrefix(subnet)}}
}

// Node is a node of the name, with a token and an address that follow from i.
func Node(name string, i int) overlay.Node {
	return overlay.Node{Name: name, Token: "token" + string(rune('a'+i)), Address: netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i)}), MTU: 1500}
}

// BlockOf is a block of a node.
func BlockOf(network, prefix string, n overlay.Node) overlay.Block {
	return overlay.Block{Network: network, Prefix: netip.MustParsePrefix(prefix), Node: n.Name, Token: n.Token}
}

// NotLost is a lost for a name that is to stay.
func NotLost(t testing.TB) func(error) {
	return func(err error) { t.Errorf("lost: %v", err) }
}

// limited is a context for what has to be quick.
func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	t.Cleanup(cancel)
	return ctx
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("got error %v, want %v", got, want)
	}
}

func wantAs[E error](t testing.TB, got error) E {
	t.Helper()
	var e E
	if !errors.As(got, &e) {
		t.Fatalf("got error %v, want %T", got, e)
	}
	return e
}

func contexts(t *testing.T, b Backend) {
	s := b.Open(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	n := Node("a", 0)
	for what, err := range map[string]error{
		"Watch":    s.Watch(ctx, func(overlay.Update) {}),
		"Register": s.Register(ctx, n, "i", false, NotLost(t)),
		"Claim":    s.Claim(ctx, BlockOf("blue", "10.42.0.0/24", n)),
	} {
		if err == nil {
			t.Errorf("%s under a context that has ended: no error", what)
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Watch(context.Background(), func(overlay.Update) {}) }()
	time.Sleep(50 * time.Millisecond)
	check(t, s.Close())
	select {
	case err := <-ended:
		if err == nil {
			t.Error("Watch has ended without an error")
		}
	case <-time.After(Patience):
		t.Error("Close did not end the Watch")
	}
	if err := s.Register(limited(t), n, "i", false, NotLost(t)); err == nil {
		t.Error("Register after Close: no error")
	}
}
