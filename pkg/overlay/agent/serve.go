package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Statuser is an agent, as far as its HTTP side goes. Status is safe for concurrent
// use.
type Statuser interface {
	Status() Status
}

// counted is the status with the firewall's counters. Those are read from the kernel, and
// are for who asks for all there is: not for a probe of readiness.
func counted(a Statuser) Status {
	s := a.Status()
	if s.Overlay {
		s.Dropped, _ = firewall.Dropped() // none where the kernel does not say
	}
	return s
}

// handler answers questions about the agent. Nothing on it changes anything.
func handler(a Statuser, version string, more ...prometheus.Collector) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(more...)
	registry.MustRegister(&metrics{a, version}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "alive")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		s := a.Status()
		if s.Ready {
			fmt.Fprintln(w, "ready")
			return
		}
		http.Error(w, s.Why, http.StatusServiceUnavailable)
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		_ = e.Encode(counted(a)) // the client has gone
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

// Serve answers on a listener: /healthz, /readyz, /status and /metrics. What ends it is
// given to failed. The metrics have more than the agent's own.
func Serve(l net.Listener, a Statuser, version string, failed func(error), more ...prometheus.Collector) *http.Server {
	server := &http.Server{
		Handler:           handler(a, version, more...),
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed(fmt.Errorf("serve on %s: %w", l.Addr(), err))
		}
	}()
	return server
}
