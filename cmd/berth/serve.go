package main

import (
	"fmt"
	"net/http"

	"github.com/berth-cni/berth/pkg/overlay/agent"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// statuser is the agent, as far as its HTTP side goes. Status is safe for concurrent
// use.
type statuser interface {
	Status() agent.Status
}

// handler answers questions about the agent. Nothing on it changes anything.
func handler(a statuser) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(&metrics{a}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
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
		_ = writeJSON(w, a.Status()) // the client has gone
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}
