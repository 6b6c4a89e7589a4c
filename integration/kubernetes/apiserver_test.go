package kubernetes

import (
	"encoding/json"
	"errors"
	"flag"
	"net/http"
	"testing"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestMain: the tests and their API servers are in a network namespace of their own, and
// speak over its loopback.
func TestMain(m *testing.M) {
	flag.Parse()
	// Tests of the store wait most of the time: for leases to run out.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	nstest.Main(m)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestAPIServer: who comes with which token, what RBAC holds, and that data outlives the
// process.
func TestAPIServer(t *testing.T) {
	s, err := StartAPIServer(cluster.Here{}, Options{Users: []User{{Token: "guest-token", Name: "guest"}}})
	must(t, err)
	t.Cleanup(s.Close)
	const nodes = "/api/v1/nodes"
	node := map[string]any{"metadata": map[string]string{"name": "a"}}
	_, err = s.Call(http.MethodPost, nodes, node)
	must(t, err)
	if _, err = s.Call(http.MethodPost, nodes, node); !IsConflict(err) {
		t.Errorf("a second node of the name: %v, want a conflict", err)
	}
	for token, want := range map[string]int{"guest-token": http.StatusForbidden, "nobody's": http.StatusUnauthorized} {
		var refused *StatusError
		if _, err := s.CallAs(token, http.MethodGet, nodes, nil); !errors.As(err, &refused) || refused.Code != want {
			t.Errorf("nodes with the token %s: %v, want %d", token, err, want)
		}
	}
	must(t, s.Apply("/api/v1/namespaces/apart", "apiVersion: v1\nkind: Namespace\nmetadata: {name: apart}\n"))
	must(t, s.Apply("/api/v1/namespaces/apart/serviceaccounts/agent", "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: agent}\n"))
	pod := map[string]any{"metadata": map[string]string{"name": "agent-a"},
		"spec": map[string]any{"nodeName": "a", "serviceAccountName": "agent", "automountServiceAccountToken": false,
			"containers": []map[string]string{{"name": "agent", "image": "none"}}}}
	_, err = s.Call(http.MethodPost, "/api/v1/namespaces/apart/pods", pod)
	must(t, err)
	token, err := s.AccountToken("apart", "agent", "agent-a")
	must(t, err)
	answer, err := s.CallAs(token, http.MethodPost, "/apis/authentication.k8s.io/v1/selfsubjectreviews", map[string]any{"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"})
	must(t, err)
	var who struct {
		Status struct {
			UserInfo struct {
				Username string
				Extra    map[string][]string
			}
		}
	}
	must(t, json.Unmarshal(answer, &who))
	if u := who.Status.UserInfo; u.Username != "system:serviceaccount:apart:agent" || len(u.Extra["authentication.kubernetes.io/node-name"]) != 1 || u.Extra["authentication.kubernetes.io/node-name"][0] != "a" {
		t.Errorf("the token is of %+v, want agent's on node a", u)
	}
	s.Kill()
	must(t, s.Start())
	_, err = s.Call(http.MethodGet, nodes+"/a", nil)
	must(t, err)
}
