package kubernetes

import (
	"context"
	"encoding/json"
	"time"

	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// lease is a coordination.k8s.io/v1 Lease: of a node's name its agent's life.
type lease struct {
	client.Object
	Spec leaseSpec `json:"spec"`
}

type leaseSpec struct {
	// Holder is the instance; empty: it has ended in good order, and what hangs on it (the
	// names) goes when the time is up.
	Holder   string    `json:"holderIdentity,omitempty"`
	Seconds  int       `json:"leaseDurationSeconds,omitempty"`
	Acquired microTime `json:"acquireTime"`
	Renewed  microTime `json:"renewTime"`
}

func (s *Store) lease(name, holder string) lease {
	now := microTime{s.c.Now()}
	l := lease{Object: client.Object{APIVersion: client.Leases.APIVersion(), Kind: "Lease", Metadata: client.Meta{Name: name, Namespace: s.o.Namespace}}}
	l.Spec = leaseSpec{holder, int(s.o.TTL / time.Second), now, now}
	return l
}

// duration is the time it was taken for, within reason.
func (l *lease) duration() time.Duration {
	return min(max(time.Duration(l.Spec.Seconds)*time.Second, time.Second), 2*time.Minute)
}

// ends is when it runs out, by the server's clock.
func (l *lease) ends() time.Time { return l.Spec.Renewed.Add(l.duration()) }

// put writes a lease that was read, or a new one.
func (s *Store) putLease(ctx context.Context, l *lease) error {
	if l.Metadata.Version == "" {
		return s.c.Create(ctx, s.leases.Path(), l, l)
	}
	return s.c.Replace(ctx, s.leases.Path(l.Metadata.Name), l, l)
}

// microTime is a time with six digits behind the second, neither more nor fewer.
type microTime struct{ time.Time }

const microLayout = "2006-01-02T15:04:05.000000Z07:00"

func (t microTime) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return json.Marshal(t.UTC().Format(microLayout))
}

func (t *microTime) UnmarshalJSON(data []byte) error {
	var text *string
	if err := json.Unmarshal(data, &text); err != nil || text == nil {
		return err
	}
	at, err := time.Parse(time.RFC3339, *text)
	t.Time = at
	return err
}
