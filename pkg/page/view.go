package page

import (
	"context"
	"reflect"
	"sync"
	"time"

	"github.com/berth-cni/berth/pkg/doctor"
	"github.com/berth-cni/berth/pkg/graph"
	"github.com/berth-cni/berth/pkg/internal/filewatch"
	"github.com/berth-cni/berth/pkg/link"
)

// view is what is seen of the host, for as long as somebody looks.
type view struct {
	Config
	ctx     context.Context // of the server
	streams chan struct{}   // has one of each stream
	timeout time.Duration   // of writing to a page

	mu       sync.Mutex
	watching int // streams
	stop     context.CancelFunc
	now      moment
	news     chan struct{} // is closed when there is another moment

	moved    chan struct{}  // the host is another one than the doctor saw, perhaps
	report   *doctor.Report // the last one
	reported time.Time
	took     time.Duration
}

// moment is what is seen at a time. It does not change.
type moment struct {
	host     *graph.Graph // nil: nobody has looked yet
	drawn    *drawn       // the same, with what the doctor found
	findings []finding    // nil: the doctor has not looked yet
	rates    rates
	trouble  string // why the host could not be looked at
}

func newView(ctx context.Context, c Config) *view {
	return &view{Config: c, ctx: ctx, streams: make(chan struct{}, maxStreams), timeout: writeTime, news: make(chan struct{}), moved: make(chan struct{}, 1)}
}

// join has the host watched until leave is called.
func (v *view) join() (leave func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.watching++; v.watching == 1 {
		var ctx context.Context
		ctx, v.stop = context.WithCancel(v.ctx)
		go v.watch(ctx)
		go v.diagnose(ctx)
	}
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.watching--; v.watching == 0 {
			v.stop()
			v.now = moment{} // or the next one would see what has been
		}
	}
}

// see returns what is seen, and a channel that is closed when that is something else.
func (v *view) see() (moment, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now, v.news
}

// tell changes what is seen, unless nobody looks any more.
func (v *view) tell(ctx context.Context, change func(*moment)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	change(&v.now)
	close(v.news)
	v.news = make(chan struct{})
}

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
