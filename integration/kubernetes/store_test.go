package kubernetes

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/pkg/overlay"
	store "github.com/berth-cni/berth/pkg/overlay/kubernetes"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

const testTTL = 3 * time.Second

// open is a host's way to a store of a group of its own.
func open(t testing.TB, config, group string) *store.Store {
	t.Helper()
	s, err := store.Open(store.Options{Options: client.Options{Kubeconfig: config}, Group: group, Namespace: namespaceOf(group), TTL: testTTL,
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

var groups atomic.Int32

// newGroup is an empty store on the server.
func newGroup(t testing.TB, s *APIServer) string {
	t.Helper()
	group := fmt.Sprintf("test%d.berth.dev", groups.Add(1))
	must(t, s.Define(group))
	_, err := s.Call(http.MethodPost, "/api/v1/namespaces", map[string]any{"metadata": map[string]string{"name": namespaceOf(group)}})
	must(t, err)
	return group
}

func namespaceOf(group string) string {
	if first, ok := strings.CutSuffix(group, "."+Group); ok {
		return "for-" + first
	}
	return store.DefaultNamespace
}

func TestConform(t *testing.T) {
	s, err := StartAPIServer(cluster.Here{}, Options{Port: 6643})
	must(t, err)
	t.Cleanup(s.Close)
	config, err := s.Kubeconfig("admin", s.Token)
	must(t, err)
	overlaytest.Conform(t, func(t testing.TB) overlaytest.Backend {
		group := newGroup(t, s)
		return overlaytest.Backend{TTL: testTTL, Open: func(t testing.TB) overlay.Store { return open(t, config, group) }}
	})
}
