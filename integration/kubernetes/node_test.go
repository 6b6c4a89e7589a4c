package kubernetes

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/node"
)

// nodeObject is a Node, or an event, as far as the test looks at it.
type nodeObject struct {
	client.Object
	Spec struct {
		Taints []taint `json:"taints"`
	} `json:"spec"`
	Status struct {
		Conditions []struct{ Type, Status, Reason string } `json:"conditions"`
	} `json:"status"`
}

type taint struct{ Key, Effect string }

// TestNode: a Node whose pods can be attached loses our taint, and a cloud's word that it
// has no network, and nothing else; and an event says why they cannot.
func TestNode(t *testing.T) {
	s, err := StartAPIServer(cluster.Here{}, Options{Port: 6553})
	must(t, err)
	t.Cleanup(s.Close)
	c := connect(t, s, "admin", s.Token)
	read := func() (o nodeObject) {
		must(t, c.Get(t.Context(), client.Nodes.Path("oslo"), &o))
		return o
	}
	must(t, c.Create(t.Context(), client.Nodes.Path(), json.RawMessage(`{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "oslo"}, "spec": {"taints": [
		{"key": "berth.dev/agent-not-ready", "effect": "NoSchedule"}, {"key": "team", "value": "a", "effect": "NoExecute"}, {"key": "berth.dev/agent-not-ready", "effect": "NoExecute"}]}}`), nil))
	must(t, c.Patch(t.Context(), client.Nodes.Path("oslo", "status"), client.StrategicMerge, json.RawMessage(`{"status": {"conditions": [
		{"type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated"}, {"type": "Ready", "status": "False", "reason": "KubeletNotReady"}]}}`), nil))

	var why atomic.Value
	why.Store("no block is free")
	n := node.Node{Client: c, Name: "oslo", Ready: func() string { return why.Load().(string) }, Patience: time.Millisecond, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); n.Run(ctx) }()
	defer func() { cancel(); <-ended }()

	await(t, "an event says why", func() bool {
		return slices.Contains(notes(t, c), "Warning NetworkNotReady pods cannot be attached: no block is free")
	})
	if o := read(); len(o.Spec.Taints) < 3 || condition(&o, "NetworkUnavailable") != "True NoRouteCreated" {
		t.Errorf("before it is ready: %+v", o)
	}
	why.Store("")
	await(t, "the condition", func() bool { o := read(); return condition(&o, "NetworkUnavailable") == "False BerthIsReady" })
	o := read()
	if condition(&o, "Ready") != "False KubeletNotReady" {
		t.Errorf("the other condition: %+v", o.Status)
	}
	if slices.ContainsFunc(o.Spec.Taints, func(x taint) bool { return x.Key == node.Taint }) || !slices.Contains(o.Spec.Taints, taint{"team", "NoExecute"}) {
		t.Errorf("taints: %+v", o.Spec.Taints)
	}
	await(t, "an event says that it is over", func() bool { return slices.Contains(notes(t, c), "Normal NetworkReady pods can be attached again") })
}

func condition(o *nodeObject, kind string) string {
	for _, c := range o.Status.Conditions {
		if c.Type == kind {
			return c.Status + " " + c.Reason
		}
	}
	return ""
}

// notes are the events of the Node, as kubectl finds them.
func notes(t *testing.T, c *client.Client) (all []string) {
	t.Helper()
	var list struct {
		Items []struct {
			Type, Reason, Message string
			InvolvedObject        struct{ UID string }
		}
	}
	must(t, c.Get(t.Context(), (client.Resource{Version: "v1", Namespace: "default", Plural: "events"}).Path(), &list))
	for _, e := range list.Items {
		if e.InvolvedObject.UID == "oslo" {
			all = append(all, strings.Join([]string{e.Type, e.Reason, e.Message}, " "))
		}
	}
	return all
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !is(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not after 2 minutes: %s", what)
		}
	}
}
