package etcd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// beat is how often a watch that is quiet is asked whether it still is one.
const beat = 30 * time.Second

// stream watches a prefix from behind a place, on one connection, until something
// fails. started is called once, when the watch stands, changed with what has
// changed and the revision up to which that is everything.
//
// It speaks the protocol itself. The library's Watch hides a lost connection, goes
// on by itself also where the store is another one (restored from a backup), queues
// without a bound what it did not deliver, and after a progress answer of a server
// before 3.4.25 it may leave changes out (etcd issue 15220).
func (s *Store) stream(ctx context.Context, prefix string, at place, started func() error, changed func(map[string]*mvccpb.Event, int64)) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	stop := context.AfterFunc(s.ctx, cancel)
	defer stop()
	client, err := s.connect(ctx)
	if err != nil {
		return err
	}
	st := &stream{beat: time.NewTimer(s.o.RequestTimeout), answer: s.o.RequestTimeout, responses: make(chan *pb.WatchResponse)}
	st.newest = func() (int64, error) { return s.newest(ctx) }
	defer st.beat.Stop()
	// Opening can wait for a log-in. The timer is that of the first answer, too.
	opening := time.AfterFunc(s.o.RequestTimeout, cancel)
	st.rpc, err = pb.NewWatchClient(client.ActiveConnection()).Watch(ctx, grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if !opening.Stop() {
		s.forget(client)
		return fmt.Errorf("open a watch: no answer for %s", st.answer)
	}
	if err != nil {
		return fmt.Errorf("open a watch: %w", sentence(rpctypes.Error(err)))
	}
	failed := make(chan error, 1)
	go func() {
		defer close(st.responses)
		failed <- st.receive(ctx)
	}()
	err = st.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key:            []byte(prefix),
		RangeEnd:       []byte(clientv3.GetPrefixRangeEnd(prefix)),
		StartRevision:  at.revision + 1,
		ProgressNotify: true, // so that what others write does not make our revision an old one
	}}})
	if err == nil {
		err = st.serve(at, started, changed)
	}
	var no *watchRefusedError
	if errors.As(err, &no) {
		s.refused(no.reason)
	}
	cancel()
	for range st.responses { // until the receiver has ended
	}
	if errors.Is(err, errEnded) {
		err = sentence(rpctypes.Error(<-failed))
	}
	return err
}

// stream is a watch on one connection.
type stream struct {
	rpc       pb.Watch_WatchClient
	responses chan *pb.WatchResponse
	beat      *time.Timer
	answer    time.Duration // how long an answer may take
	newest    func() (int64, error)
	asked     bool // and not yet answered

	pending  map[string]*mvccpb.Event
	since    time.Time // the first of pending
	told     time.Time // when changes were last told
	revision int64     // up to which pending is everything
}

var errEnded = errors.New("the watch has ended")

// watchRefusedError is etcd's no to a watch.
type watchRefusedError struct{ reason string }

func (e *watchRefusedError) Error() string { return "etcd refuses the watch: " + e.reason }

func (st *stream) send(r *pb.WatchRequest) error {
	if err := st.rpc.Send(r); err != nil {
		return errEnded // the receiver has the reason
	}
	return nil
}

func (st *stream) receive(ctx context.Context) error {
	for {
		r, err := st.rpc.Recv()
		if err != nil {
			return err
		}
		select {
		case st.responses <- r:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (st *stream) serve(at place, started func() error, changed func(map[string]*mvccpb.Event, int64)) error {
	st.asked, st.revision = true, at.revision
	quiet := time.NewTimer(time.Hour)
	defer quiet.Stop()
	flush := func() {
		changed(st.pending, st.revision)
		st.pending, st.told = nil, time.Now()
	}
	take := func(r *pb.WatchResponse, ok bool) error {
		if !ok {
			return errEnded
		}
		if err := st.take(r, at); err != nil {
			return err
		}
		if r.Created {
			if err := started(); err != nil {
				return err
			}
		}
		st.asked = false
		st.beat.Reset(beat)
		if len(st.pending) >= burst {
			flush()
		}
		return nil
	}
	for {
		var due <-chan time.Time
		if st.pending != nil {
			wait := min(settle, settleMost-time.Since(st.since))
			if st.since.Sub(st.told) > settleMost { // after a rest the first change is told at once
				wait = 0
			}
			quiet.Reset(max(0, wait))
			due = quiet.C
		}
		var err error
		select {
		case r, ok := <-st.responses:
			err = take(r, ok)
		case <-due:
			flush()
		case <-st.beat.C:
			select {
			case r, ok := <-st.responses: // has come while changes were being told
				err = take(r, ok)
			default:
				err = st.ask()
			}
		}
		if err != nil {
			return err
		}
	}
}

// take checks a response and puts its changes to those that wait.
func (st *stream) take(r *pb.WatchResponse, at place) error {
	switch {
	case r.CompactRevision != 0:
		return fmt.Errorf("%w: those before revision %d were compacted away", errMissed, r.CompactRevision)
	case r.Canceled:
		return &watchRefusedError{r.CancelReason}
	case r.Header.GetClusterId() != at.cluster:
		return fmt.Errorf("%w: %w: it is another cluster", errMissed, errBroken)
	case r.Created && r.Header.GetRevision() < at.revision:
		// A member that lags behind, or a store that has been put back.
		switch now, err := st.newest(); {
		case err != nil:
			return err
		case now < at.revision:
			return fmt.Errorf("%w: %w: it is at revision %d, and was at %d", errMissed, errBroken, now, at.revision)
		}
	}
	if st.pending == nil && len(r.Events) > 0 {
		st.pending, st.since = map[string]*mvccpb.Event{}, time.Now()
	}
	for _, e := range r.Events {
		st.pending[string(e.Kv.Key)] = e
		st.revision = e.Kv.ModRevision
	}
	// What etcd says of its progress by itself counts. An answer to our asking (watch
	// -1) does not: before 3.4.25 it could be ahead of the changes.
	if len(r.Events) == 0 && !r.Created && r.WatchId != -1 {
		st.revision = max(st.revision, r.Header.GetRevision())
		if st.pending == nil {
			st.pending, st.since = map[string]*mvccpb.Event{}, time.Now()
		}
	}
	return nil
}

// ask has the watch answer, or ends it when it owes the answer to an earlier asking.
func (st *stream) ask() error {
	if st.asked {
		return fmt.Errorf("the watch has not answered for %s", st.answer)
	}
	st.asked = true
	st.beat.Reset(st.answer)
	return st.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
}
