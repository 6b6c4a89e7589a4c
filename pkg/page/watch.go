package page

import (
	"context"
	"reflect"
	"time"

	"github.com/berth-cni/berth/pkg/internal/filewatch"
	"github.com/berth-cni/berth/pkg/link"
)

// The pace. A container's ADD makes about ten changes at once, and they are one picture.
const (
	settle  = 30 * time.Millisecond
	portion = 25                     // a look takes one part in so many of the time
	longest = 500 * time.Millisecond // between two looks, where many containers come
	second  = time.Second            // between two readings of the counters
	slow    = 10 * time.Second       // after which it is looked at what nobody tells of
)

// watch keeps the view up to date.
func (v *view) watch(ctx context.Context) {
	changed := make(chan struct{}, 1)
	change := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	go v.hear(ctx, change)
	go func() {
		if err := filewatch.Watch(ctx, settle, change, v.Records); err != nil {
			v.Warn(err)
		}
	}()
	change()
	tick, all := time.NewTicker(second), time.NewTicker(slow)
	defer tick.Stop()
	defer all.Stop()
	var meter meter
	var rest <-chan time.Time
	for {
		look := changed
		if rest != nil {
			look = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-look:
			time.Sleep(settle)
			start := time.Now()
			v.look(ctx)
			rest = time.After(min(portion*time.Since(start), longest))
		case <-rest:
			rest = nil
		case <-tick.C:
			v.measure(ctx, &meter)
		case <-all.C:
			change()
		}
	}
}

// hear is told by the kernel of interfaces that come, go and change.
func (v *view) hear(ctx context.Context, change func()) {
	w, err := link.Watch()
	if err == nil {
		defer w.Close()
		err = w.Run(ctx, func(link.Change) { change() })
	}
	if err != nil {
		v.Warn(err)
	}
}

// look looks at the host, and tells where it is another one than before.
func (v *view) look(ctx context.Context) {
	g, err := v.Look(ctx)
	was, _ := v.see()
	if err == nil && was.trouble == "" && was.host != nil && reflect.DeepEqual(g, was.host) {
		return
	}
	v.tell(ctx, func(m *moment) {
		if err != nil {
			m.trouble = err.Error()
			return
		}
		m.trouble, m.host = "", g
		v.show(m)
	})
	select {
	case v.moved <- struct{}{}:
	default:
	}
}

// show has a moment show the host with what the doctor found.
func (v *view) show(m *moment) {
	g := m.host.Clone()
	if v.report != nil {
		m.findings = place(g, v.report)
	}
	m.drawn = &drawn{graph: g, most: v.Most}
}

// measure reads the counters.
func (v *view) measure(ctx context.Context, meter *meter) {
	now, _ := v.see()
	if now.host == nil {
		return
	}
	r, err := meter.read(now.host)
	if err != nil {
		v.Warn(err)
		return
	}
	v.tell(ctx, func(m *moment) { m.rates = r })
}
