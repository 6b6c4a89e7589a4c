package kubernetes

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/pkg/overlay"
	store "github.com/berth-cni/berth/pkg/overlay/kubernetes"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

// TestManifests: the API server takes all that deploy/berth.yaml and deploy/reset.yaml have;
// and the Job of the latter may remove its node from the store, which an agent may not.
func TestManifests(t *testing.T) {
	s, err := StartAPIServer(cluster.Here{}, Options{Port: 6763})
	must(t, err)
	t.Cleanup(s.Close)
	s.manifest(t, "berth.yaml")
	s.manifest(t, "reset.yaml")
	agent := openAs(t, s, "a", s.onNode(t, store.DefaultNamespace, "a"))
	admin, ctx := openAs(t, s, "admin", s.Token), t.Context()
	await(t, "the definitions are served", func() bool {
		_, err := admin.CreateNetwork(ctx, overlaytest.Net("blue", "10.42.0.0/16"))
		return err == nil
	})
	n := overlaytest.Node("a", 0)
	must(t, agent.Register(ctx, n, "boot", false, func(error) {}))
	must(t, agent.Claim(ctx, overlaytest.BlockOf("blue", "10.42.1.0/24", n)))
	if err := agent.RemoveNode(ctx, "a", true); !errors.Is(err, overlay.ErrNotAllowed) && !client.IsForbidden(err) {
		t.Errorf("an agent removes a node: %v", err)
	}
	token, err := s.AccountToken(store.DefaultNamespace, "berth-reset", "")
	must(t, err)
	must(t, openAs(t, s, "reset", token).RemoveNode(ctx, "a", true))
	state, err := admin.State(ctx)
	must(t, err)
	if _, there := state.Nodes["a"]; there || len(state.BlocksOf("blue", "a")) > 0 {
		t.Errorf("left: %+v, %+v", state.Nodes, state.Blocks)
	}
}

// manifest applies a file of deploy, as kubectl does.
func (s *APIServer) manifest(t *testing.T, name string) {
	t.Helper()
	text, err := os.ReadFile("../../deploy/" + name)
	must(t, err)
	docs := strings.Split(strings.ReplaceAll(string(text), "NODE\n", "a\n"), "\n---\n")
	for _, doc := range docs[1:] { // the first one is the file's comment
		path, err := pathOf(doc)
		must(t, err)
		if err := s.Apply(path, doc); err != nil {
			t.Errorf("%s: %s: %v", name, path, err)
		}
	}
}
