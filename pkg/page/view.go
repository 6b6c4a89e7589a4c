package page

import (
	"context"
	"sync"
	"time"

	"github.com/berth-cni/berth/pkg/doctor"
	"github.com/berth-cni/berth/pkg/graph"
)

// view is what is seen of the host, for as long as somebody looks.
type view struct {
	Config
	ctx     context.Context // of the server
	streams chan struct{}   // has one of each stream
	timeout time.Duration   // of a request, and of each event

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
	return &view{Config: c, ctx: ctx, streams: make(chan struct{}, maxStreams), timeout: patience, news: make(chan struct{}), moved: make(chan struct{}, 1)}
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
