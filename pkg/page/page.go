// Package page serves the picture of a host as a page that updates itself: the picture of
// pkg/graph, with rates on its lines and what doctor finds at the place that it concerns.
//
// The page is one file, and what changes comes to it as server-sent events (HTML Living
// Standard, section 9.2). Nothing is looked at while nobody has the page open, nothing that
// comes in changes anything, and whoever reads too slowly is let go of.
package page

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/berth-cni/berth/pkg/doctor"
	"github.com/berth-cni/berth/pkg/graph"
	"golang.org/x/net/netutil"
)

// Config says what is shown.
type Config struct {
	// Look looks at the host. It is called when something has changed, and now and then.
	Look func(context.Context) (*graph.Graph, error)
	// Diagnose has the doctor look, which takes longer, and is done less often.
	Diagnose func(context.Context) *doctor.Report
	Records  string // the file of the records: it is watched
	Most     int    // containers of a network that are drawn before it is opened; 0: all
	Warn     func(error)
}

// Bounds of what others can have the server do.
const (
	maxStreams     = 16
	maxConnections = 64
	maxHeader      = 8 << 10          // bytes
	patience       = 10 * time.Second // with a request, and with who does not take an answer
)

// Serve answers on a listener until the context ends, and closes it.
func Serve(ctx context.Context, l net.Listener, c Config) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	return newView(ctx, c).serve(l)
}

func (v *view) serve(l net.Listener) error {
	s := &http.Server{
		Handler:           v.handler(),
		BaseContext:       func(net.Listener) context.Context { return v.ctx }, // streams end with it
		ReadHeaderTimeout: v.timeout,                                           // of what comes, and of what goes, streams are let off
		ReadTimeout:       v.timeout,
		WriteTimeout:      v.timeout,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    maxHeader,
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(netutil.LimitListener(l, maxConnections)) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	case <-v.ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(v.ctx), 2*time.Second)
	defer cancel()
	if err := s.Shutdown(last); errors.Is(err, context.DeadlineExceeded) {
		return s.Close()
	} else if err != nil {
		return err
	}
	return nil
}

//go:embed page.html
var source []byte

// handler answers for the page, its events, and the picture in words.
func (v *view) handler() http.Handler {
	page := bytes.Replace(source, []byte("/* the picture's */"), []byte(graph.Style), 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page) // to whom it may concern
	})
	mux.HandleFunc("GET /events", v.stream)
	mux.HandleFunc("GET /tree", v.tree)
	return guard(mux, policy(page))
}

// policy is the Content-Security-Policy of the page (CSP Level 3): its own script and its own
// style, by their hashes, its own server, and nothing else.
func policy(page []byte) string {
	hash := func(tag string) string {
		_, rest, _ := bytes.Cut(page, []byte("<"+tag+">"))
		inside, _, _ := bytes.Cut(rest, []byte("</"+tag+">"))
		sum := sha256.Sum256(inside)
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return "default-src 'none'; script-src " + hash("script") + "; style-src " + hash("style") +
		"; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
