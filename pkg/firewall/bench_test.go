package firewall

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
)

// benchAttachment is the i-th container of one network, with one TCP port.
func benchAttachment(i int, r *Rules) *attach.Attachment {
	a := attachment(fmt.Sprint("c", i), []string{fmt.Sprintf("10.%d.%d.%d/8", i>>16, i>>8&0xff, i&0xff)},
		attach.Port{HostPort: uint16(i), ContainerPort: 80, Protocol: "tcp"})
	a.Steps = []attach.Step{r}
	return a
}

// benchmark runs fn on containers that come after n others; all of them are
// gone at the end.
func benchmark(b *testing.B, n int, fn func(*Rules, *attach.Attachment) error) {
	nstest.Host(b)
	r := &Rules{Backend: NFTables, Bridge: "br0", Masquerade: true}
	var all []*attach.Attachment
	for i := range n {
		all = append(all, benchAttachment(i, r))
	}
	if err := Rebuild(context.Background(), recordsOf(&all)); err != nil {
		b.Fatal(err)
	}
	for i := n; b.Loop(); i++ {
		if err := fn(r, benchAttachment(i, r)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	last := benchAttachment(999, &Rules{})
	benchmark(b, 1000, func(r *Rules, _ *attach.Attachment) error { return r.Check(b.Context(), last) })
}

// BenchmarkDel adds what it deletes outside of the measured time.
func BenchmarkDel(b *testing.B) {
	benchmark(b, 1000, func(r *Rules, a *attach.Attachment) error {
		b.StopTimer()
		err := r.Add(b.Context(), &attach.Adding{Attachment: a})
		b.StartTimer()
		return errors.Join(err, r.Del(b.Context(), a))
	})
}

func BenchmarkAdd(b *testing.B) {
	for _, n := range []int{0, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			benchmark(b, n, func(r *Rules, a *attach.Attachment) error {
				return r.Add(context.Background(), &attach.Adding{Attachment: a})
			})
		})
	}
}
