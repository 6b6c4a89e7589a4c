package link

import (
	"fmt"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"github.com/berth-cni/berth/pkg/link/internal/linktest"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestReachedAtOnce: as soon as a container is added, packets to its addresses come to it,
// and what it sends to itself stays there. Of IPv6 that is the work of a worker of the
// kernel's, which is late now and then.
func TestReachedAtOnce(t *testing.T) {
	nstest.Host(t)
	for i := range 40 {
		a := &attach.Adding{Attachment: linktest.Attachment(t, fmt.Sprint("c", i), 2+i)}
		for _, s := range []attach.Step{&Bridge{Name: "berth0", Gateway: true}, &Veth{Bridge: "berth0"}} {
			if err := s.Add(t.Context(), a); err != nil {
				t.Fatal(err)
			}
		}
		c, err := iface.DialIn(a.Netns)
		if err != nil {
			t.Fatal(err)
		}
		for _, addr := range a.Addresses {
			if local, err := c.IsLocal(addr.Prefix.Addr()); err != nil || !local {
				t.Errorf("container %d: %s is not its own yet (%v)", i, addr.Prefix.Addr(), err)
			}
		}
		c.Close()
	}
}
