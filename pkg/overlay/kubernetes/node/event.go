package node

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// events are what 'kubectl describe node' shows.
type events struct {
	node  *Node
	why   string    // why pods cannot be attached, at the last look
	since time.Time // it is so
	told  bool
}

// see makes an event when the network has been unusable for a while, for each reason once,
// and another when it is usable again.
func (e *events) see(ctx context.Context, why string, now time.Time) {
	switch {
	case why == "" && e.told:
		e.make(ctx, "Normal", "NetworkReady", "pods can be attached again", now)
		fallthrough
	case why == "":
		*e = events{node: e.node}
	case e.why == "":
		e.why, e.since = why, now
	case now.Sub(e.since) >= e.node.Patience && (!e.told || why != e.why):
		e.make(ctx, "Warning", "NetworkNotReady", "pods cannot be attached: "+why, now)
		e.why, e.since, e.told = why, now, true
	}
}

// lasts tells whether the network has been unusable for a while.
func (e *events) lasts(now time.Time) bool {
	return e.why != "" && (e.told || now.Sub(e.since) >= e.node.Patience)
}

// event is one of events.k8s.io/v1.
type event struct {
	client.Object
	Time       string    `json:"eventTime"` // in microseconds, as the API has it
	Controller string    `json:"reportingController"`
	Instance   string    `json:"reportingInstance"`
	Action     string    `json:"action"`
	Reason     string    `json:"reason"`
	Type       string    `json:"type"`
	Note       string    `json:"note"`
	Regarding  regarding `json:"regarding"`
}

type regarding struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	UID        string `json:"uid,omitempty"`
}

// make makes an event about the Node. Those of objects without a namespace are in default,
// and name the node as their UID, as the kubelet's do: by it kubectl finds them.
func (e *events) make(ctx context.Context, kind, reason, note string, now time.Time) {
	const most = 1024 // bytes of a note (pkg/apis/core/validation/events.go)
	note = strings.ToValidUTF8(note[:min(len(note), most)], "")
	instance, err := os.Hostname()
	if err != nil || len(instance) > 128 {
		instance = "agent"
	}
	err = e.node.Client.Create(ctx, client.Events.In("default").Path(), event{
		Object: client.Object{APIVersion: client.Events.APIVersion(), Kind: "Event", Metadata: client.Meta{Name: fmt.Sprintf("%s.%x", e.node.Name, now.UnixNano()), Namespace: "default"}},
		Time:   now.UTC().Format("2006-01-02T15:04:05.000000Z"), Controller: "berth.dev/agent", Instance: instance,
		Action: "Attach", Reason: reason, Type: kind, Note: note,
		Regarding: regarding{"v1", "Node", e.node.Name, e.node.Name},
	}, nil)
	if err != nil && ctx.Err() == nil {
		e.node.Log.Warn("make an event of the Node", "node", e.node.Name, "event", reason, "error", err)
	}
}
