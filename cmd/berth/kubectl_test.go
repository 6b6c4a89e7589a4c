package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/overlay"
)

func TestKubectlHelp(t *testing.T) {
	for _, c := range []string{"", "on", "network create", "node ls"} {
		code, out, errs := kubectlBerth(t, nil, append(strings.Fields(c), "--help")...)
		if code != exitDone {
			t.Fatalf("%s: %d, %s", c, code, errs)
		}
		golden(t, "help/"+strings.ReplaceAll(strings.TrimSpace(kubectlName+" "+c), " ", "-")+".txt", out)
	}
}

// kubectlBerth runs the program as kubectl does, on a host without networks.
func kubectlBerth(t *testing.T, m *memory, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv("BERTH_STATE_DIR", t.TempDir())
	t.Setenv("BERTH_DATA_DIR", t.TempDir())
	t.Setenv(conflist.Env, t.TempDir())
	var out, errs bytes.Buffer
	p := &program{kubectl: true, in: strings.NewReader(""), out: &out, err: &errs, now: func() time.Time { return noon },
		open: func(s *settings, _ *slog.Logger) (overlay.Store, error) {
			if s.store != storeKubernetes {
				t.Errorf("store %s", s.store)
			}
			return m, nil
		}}
	code = run(t.Context(), p, args...)
	return code, out.String(), errs.String()
}

func TestKubectlCreate(t *testing.T) {
	m := &memory{state: overlay.NewState()}
	code, out, errs := kubectlBerth(t, m, "network", "create", "--subnet", "10.60.0.0/16", "blue")
	if n := m.state.Networks["blue"]; code != exitDone || out != "blue\n" || !n.Names || len(n.Subnets) != 1 {
		t.Errorf("%d, %s%s: %+v", code, out, errs, n)
	}
	for _, args := range [][]string{
		{"network", "create", "--driver", "bridge", "red"},
		{"node", "ls", "--store", "etcd"},
		{"node", "rotate-key"},
	} {
		if code, out, errs := kubectlBerth(t, m, args...); code != exitUsage {
			t.Errorf("%q: %d, %s%s", args, code, out, errs)
		}
	}
}

// TestOn runs a command on nodes: the pods are those of an API server, and kubectl is a
// program that says how it was called.
func TestOn(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/namespaces/net/pods" || !strings.Contains(r.URL.Query().Get("labelSelector"), "app.kubernetes.io/name=berth") {
			http.Error(w, `{"kind": "Status", "message": "not here"}`, http.StatusNotFound)
			return
		}
		pod := func(name, node string) map[string]any {
			return map[string]any{"metadata": map[string]any{"name": name}, "spec": map[string]any{"nodeName": node}}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"items": []any{pod("berth-x", "b"), pod("berth-y", "a")}})
	}))
	defer api.Close()
	bin := t.TempDir()
	script := "#!/bin/sh\necho \"$@\"\ncase \"$*\" in *berth-x*fail*) exit 3;; *berth-y*fail*) exit 1;; esac\n"
	if err := os.WriteFile(filepath.Join(bin, "kubectl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	kubeconfig := filepath.Join(bin, "config")
	text := fmt.Sprintf("{clusters: [{name: c, cluster: {server: %q}}], contexts: [{name: c, context: {cluster: c}}], current-context: c}", api.URL)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := []string{"--kubeconfig", kubeconfig, "--namespace", "net"}
	line := func(pod, command string) string {
		return fmt.Sprintf("--kubeconfig=%s exec --namespace=net --container=agent %s -- berth %s\n", kubeconfig, pod, command)
	}
	for _, test := range []struct {
		args []string
		code int
		out  string
	}{
		{[]string{"a", "ps", "-q"}, exitDone, line("berth-y", "ps -q")},
		{[]string{"all", "doctor"}, exitDone, "a:\n" + line("berth-y", "doctor") + "\nb:\n" + line("berth-x", "doctor")},
		{[]string{"b,a", "fail"}, 3, "b:\n" + line("berth-x", "fail") + "\na:\n" + line("berth-y", "fail")},
		{[]string{"a,none", "ps"}, exitUsage, ""},
		{[]string{"a"}, exitUsage, ""},
	} {
		code, out, errs := kubectlBerth(t, nil, append(append([]string{"on"}, flags...), test.args...)...)
		if code != test.code || out != test.out {
			t.Errorf("%q: %d, want %d\n%s%swant:\n%s", test.args, code, test.code, out, errs, test.out)
		}
	}
	if code, _, errs := kubectlBerth(t, nil, "on", "--kubeconfig", kubeconfig, "all", "ps"); code != exitFailed || !strings.Contains(errs, "list agents' pods") {
		t.Errorf("another namespace: %d, %s", code, errs)
	}
}

func TestChoosePods(t *testing.T) {
	running := map[string]string{"b": "pod-b", "a": "pod-a"}
	for nodes, want := range map[string][]agentPod{
		"all": {{"a", "pod-a"}, {"b", "pod-b"}}, "b": {{"b", "pod-b"}}, "b,a": {{"b", "pod-b"}, {"a", "pod-a"}}, "c": nil, "a,c": nil, "": nil,
	} {
		if got, err := choosePods(running, nodes); !reflect.DeepEqual(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%q: %v (%v)", nodes, got, err)
		}
	}
	if _, err := choosePods(nil, allNodes); err == nil {
		t.Error("no agents: no error")
	}
}
