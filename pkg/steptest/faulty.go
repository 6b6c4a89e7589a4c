package steptest

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/berth-cni/berth/pkg/attach"
)

// ErrFault is what a [Faulty] step fails with.
var ErrFault = errors.New("fault")

// Faulty is a step that fails before the real work, or panics after it.
type Faulty struct {
	attach.Step
	Panics bool
}

// MarshalJSON renders the real step, which the record keeps.
func (f Faulty) MarshalJSON() ([]byte, error) { return json.Marshal(f.Step) }

// Add implements [attach.Step].
func (f Faulty) Add(ctx context.Context, a *attach.Adding) error {
	if !f.Panics {
		return ErrFault
	}
	if err := f.Step.Add(ctx, a); err != nil {
		return err
	}
	panic(ErrFault)
}
