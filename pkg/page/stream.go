package page

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/graph"
)

// tree answers with the picture in words, of all networks.
func (v *view) tree(w http.ResponseWriter, _ *http.Request) {
	now, _ := v.see()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if now.drawn != nil {
		_ = now.drawn.graph.Tree(w, graph.TreeOptions{}) // to whom it may concern
	}
}

// beat is how often a page is told that all is well.
const beat = 4 * time.Second

// stream sends a page what it has to show, and then what has become of it, until the page is
// closed. A page that is away for so long that nothing fits into its connection any more is
// let go of: it comes back by itself, and gets everything anew.
func (v *view) stream(w http.ResponseWriter, r *http.Request) {
	open, ok := opened(r)
	if !ok {
		http.Error(w, "too many networks are open", http.StatusBadRequest)
		return
	}
	select {
	case v.streams <- struct{}{}:
		defer func() { <-v.streams }()
	default:
		http.Error(w, fmt.Sprintf("%d pages are open: close one", maxStreams), http.StatusServiceUnavailable)
		return
	}
	defer v.join()()
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Time{}); err != nil { // nothing more comes, for as long as it likes
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s := stream{w: w, control: control, timeout: v.timeout, open: open, sent: map[string]string{}}
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		now, news := v.see()
		if err := s.update(&now); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-news:
		case <-ticker.C:
			if s.send("beat", "{}\n") != nil {
				return
			}
		}
	}
}

// opened are the networks that a page wants whole.
func opened(r *http.Request) (open []string, ok bool) {
	const most = 256
	open = r.URL.Query()["open"]
	slices.Sort(open)
	return slices.Compact(open), len(open) <= most
}

// stream is a page, and what it has been sent.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	open    []string
	sent    map[string]string // by the kind of event
	drawn   *drawn
	rates   rates
}

// update sends what a page does not have yet.
func (s *stream) update(m *moment) error {
	trouble, err := encode(m.trouble)
	if err != nil {
		return err
	}
	if err := s.change("trouble", trouble); err != nil {
		return err
	}
	if m.drawn != s.drawn && m.drawn != nil {
		s.drawn = m.drawn
		text, err := m.drawn.event(s.open)
		if err != nil {
			return err
		}
		if err := s.change("picture", text); err != nil {
			return err
		}
		if m.findings != nil {
			if text, err = encode(m.findings); err != nil {
				return err
			}
			if err := s.change("findings", text); err != nil {
				return err
			}
		}
	}
	since := m.rates.since(s.rates)
	if s.drawn == nil || len(since) == 0 {
		return nil
	}
	s.rates = m.rates
	text, err := encode(since)
	if err != nil {
		return err
	}
	return s.send("rates", text)
}

// change sends an event unless it is the last one of its kind again.
func (s *stream) change(kind, data string) error {
	if s.sent[kind] == data {
		return nil
	}
	s.sent[kind] = data
	return s.send(kind, data)
}

// send writes an event. data ends with its only end of line.
func (s *stream) send(kind, data string) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(s.w, "event: %s\ndata: %s\n", kind, data); err != nil {
		return err
	}
	return s.control.Flush()
}
