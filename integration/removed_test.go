package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// TestNetworkRemovedByOthers: what is left of a network whose configuration somebody
// took away goes with its last container, by an agent that saw it or by 'berth gc'.
func TestNetworkRemovedByOthers(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"agent", "gc"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			const file = "/etc/cni/net.d/demo.conflist"
			list := conflist(version, bridge)
			must(t, b.Do(func() error {
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					return err
				}
				return os.WriteFile(file, []byte(list), 0o644)
			}))
			before := b.snapshot()
			if by == "agent" {
				b.agent()
				before = b.snapshot()
			}
			n, err := b.Network(list, b.bin)
			must(t, err)
			c := b.container("c1")
			b.add(n, c, tcpPort(8080, 80))
			gone := func() error { return b.Script("ip link show berth0") }
			gc := func() {
				if by == "gc" {
					out, err := b.Output(filepath.Join(b.bin, "berth"), "gc")
					t.Log(out)
					must(t, err)
				}
			}
			gc()
			must(t, gone()) // it has a configuration, and a container
			must(t, b.Do(func() error { return os.Remove(file) }))
			gc()
			must(t, n.Check(c, tcpPort(8080, 80))) // it has a container
			must(t, n.Del(c, tcpPort(8080, 80)))
			must(t, c.Remove())
			gc()
			b.soon(func() error {
				if gone() == nil {
					return os.ErrExist
				}
				return nil
			})
			b.soon(func() error { // the bridge goes first
				for _, l := range before.Diff(b.snapshot()) {
					if strings.Contains(l, "berth0") || strings.Contains(l, "networks") {
						return fmt.Errorf("left: %s", l)
					}
				}
				return nil
			})
			again := b.container("c2")
			b.add(n, again, tcpPort(8080, 80))
			serve(t, again, ":80")
			b.answers(b.outside, sandbox.HostAddr4+":8080", again, sandbox.OutsideAddr4)
		})
	}
}
