package ipam

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
)

// BenchmarkAllocate60000 allocates from a /16 in which 60,000 addresses are leased.
func BenchmarkAllocate60000(b *testing.B) {
	const leases = 60_000
	s, c := store(b), parse(b, `{"subnet": "10.88.0.0/16"}`)
	err := s.Update(context.Background(), func(tx *attach.Tx) error {
		for i := range leases {
			if _, err := c.Allocate(tx, key(fmt.Sprintf("container-with-a-long-id-%d", i)), "", nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("next", func(b *testing.B) { inTransaction(b, s, c, func(*attach.Tx) error { return nil }) })
	// The cursor is at the other end: the search passes all leases.
	b.Run("worst", func(b *testing.B) {
		inTransaction(b, s, c, func(tx *attach.Tx) error { return tx.SetCursor(network, "0", addr("10.88.0.2")) })
	})
	b.Run("with-transactions", func(b *testing.B) {
		for b.Loop() { // claim and record of ADD, and those of DEL
			if _, err := add(s, c, "x"); err != nil {
				b.Fatal(err)
			}
			del(b, s, "x")
		}
	})
}

// inTransaction measures the allocation alone, and forgets what it leased before
// the range is full.
func inTransaction(b *testing.B, s *attach.Store, c *Config, before func(*attach.Tx) error) {
	forget := errors.New("forget")
	b.StopTimer()
	b.ResetTimer()
	for done := 0; done < b.N; {
		err := s.Update(context.Background(), func(tx *attach.Tx) error {
			b.StartTimer()
			defer b.StopTimer()
			for n := 0; n < 1000 && done < b.N; n, done = n+1, done+1 {
				if err := before(tx); err != nil {
					return err
				}
				if _, err := c.Allocate(tx, key("x"), "", nil); err != nil {
					return err
				}
			}
			return forget
		})
		if !errors.Is(err, forget) {
			b.Fatal(err)
		}
	}
}
