package static

import (
	"context"
	"errors"
	"testing"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

// TestNames: hosts of a file know no names of each other, and it is no error.
func TestNames(t *testing.T) {
	s := store(t, example(t))
	l := overlaytest.Listen(t, s, "blue")
	if err := s.PublishNames(t.Context(), []overlay.Name{overlaytest.Called("blue", "host1", 1)}, nil); err != nil {
		t.Error(err)
	}
	l.WaitNames(t, 0)
	if n := len(l.Updates()); n != 1 {
		t.Errorf("%d updates, want 1", n)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.WatchNames(ended, "blue", func(overlay.Update) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("a watch under a context that has ended: %v", err)
	}
}
