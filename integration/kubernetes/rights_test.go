package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/pkg/overlay"
	store "github.com/berth-cni/berth/pkg/overlay/kubernetes"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
	kubenode "github.com/berth-cni/berth/pkg/overlay/kubernetes/node"
	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

// TestRights: with the rights of the chart an agent does all that it has to, and who has
// taken its token from the node writes nothing that is another's.
func TestRights(t *testing.T) {
	s, err := StartAPIServer(cluster.Here{}, Options{Port: 6743})
	must(t, err)
	t.Cleanup(s.Close)
	must(t, s.Define(Group))
	const namespace = store.DefaultNamespace
	must(t, s.Apply("/api/v1/namespaces/"+namespace, "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+namespace+"}\n"))
	must(t, s.Apply("/api/v1/namespaces/"+namespace+"/serviceaccounts/berth-agent", "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: berth-agent}\n"))
	must(t, s.Permit(namespace, "rbac", "admission"))
	stores := map[string]*store.Store{}
	tokens := map[string]string{}
	for _, node := range []string{"a", "b"} {
		tokens[node] = s.onNode(t, namespace, node)
		stores[node] = openAs(t, s, node, tokens[node])
	}
	admin, ctx := openAs(t, s, "admin", s.Token), t.Context()
	blue, err := admin.CreateNetwork(ctx, overlaytest.Net("blue", "10.42.0.0/16"))
	must(t, err)
	for i, node := range []string{"a", "b"} {
		n := overlaytest.Node(node, i)
		work(t, connect(t, s, "look", s.Token), stores[node], n, overlaytest.BlockOf("blue", []string{"10.42.1.0/24", "10.42.2.0/24"}[i], n))
	}
	stranger, err := s.AccountToken(namespace, "berth-agent", "")
	must(t, err)
	t.Run("stolen token", func(t *testing.T) { stolen(t, s, tokens["a"], blue.ID) })
	t.Run("token of no node", func(t *testing.T) {
		c := connect(t, s, "stranger", stranger)
		refused(t, c.Patch(ctx, nodeObjects.Path("a"), client.Merge, map[string]any{"spec": map[string]any{"mtu": 1400}}, nil), "not bound to a pod on a node")
	})
	t.Run("what is seen to be deleted", func(t *testing.T) {
		f := overlaytest.Follow(t, stores["b"], true)
		must(t, stores["a"].Withdraw(ctx))
		must(t, connect(t, s, "kubectl", s.Token).Delete(ctx, networkObjects.Path("blue"), "", ""))
		must(t, connect(t, s, "kubectl", s.Token).Delete(ctx, nodeObjects.Path("a"), "", ""))
		f.Wait(t, "the orders", func(st *overlay.State) bool {
			network, ok := st.NetworkRemoved(blue.ID)
			_, too := st.NodeRemoved("a", overlaytest.Node("a", 0).Token)
			return ok && too && strings.Contains(network.By, "as node b saw")
		})
	})
	_, err = stores["b"].Restore(ctx, overlaytest.Example(time.Now()), false)
	if !errors.Is(err, overlay.ErrNotAllowed) {
		t.Errorf("an agent gives back what is others': %v", err)
	}
}

// The resources that agents write.
var (
	nodeObjects    = client.Resource{Group: Group, Version: "v1", Plural: "berthnodes"}
	networkObjects = client.Resource{Group: Group, Version: "v1", Plural: "berthnetworks"}
	blockObjects   = client.Resource{Group: Group, Version: "v1", Plural: "berthblocks"}
	orders         = client.Resource{Group: Group, Version: "v1", Plural: "berthremovals"}
)

// taints are others' of each Node.
var taints = []map[string]string{{"key": "team", "value": "a", "effect": "NoSchedule"}}

// podCIDRs are what each Node has.
var podCIDRs = []string{"10.42.7.0/24", "fd00:42:0:7::/64"}

// onNode is the token of an agent's pod on a Node, which it makes.
func (s *APIServer) onNode(t testing.TB, namespace, node string) string {
	t.Helper()
	_, err := s.Call(http.MethodPost, "/api/v1/nodes", map[string]any{"metadata": map[string]string{"name": node}, "spec": map[string]any{"podCIDR": podCIDRs[0], "podCIDRs": podCIDRs, "taints": append(taints, map[string]string{"key": kubenode.Taint, "effect": "NoSchedule"})}})
	must(t, err)
	must(t, connect(t, s, "cloud", s.Token).Patch(t.Context(), client.Nodes.Path(node, "status"), client.StrategicMerge, map[string]any{"status": map[string]any{"conditions": []map[string]string{
		{"type": "NetworkUnavailable", "status": "True"}, {"type": "Ready", "status": "True"}}}}, nil))
	pod := map[string]any{"metadata": map[string]string{"name": "agent-" + node},
		"spec": map[string]any{"nodeName": node, "serviceAccountName": "berth-agent", "automountServiceAccountToken": false,
			"containers": []map[string]string{{"name": "agent", "image": "none"}}}}
	_, err = s.Call(http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods", pod)
	must(t, err)
	token, err := s.AccountToken(namespace, "berth-agent", "agent-"+node)
	must(t, err)
	return token
}

func openAs(t testing.TB, s *APIServer, name, token string) *store.Store {
	t.Helper()
	config, err := s.Kubeconfig("store-"+name, token)
	must(t, err)
	return open(t, config, Group)
}

// work is all that an agent does at the store.
func work(t *testing.T, admin *client.Client, s *store.Store, n overlay.Node, b overlay.Block) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), overlaytest.Patience)
	defer cancel()
	f := overlaytest.Follow(t, s, true)
	must(t, s.Register(context.WithoutCancel(ctx), n, "boot", false, overlaytest.NotLost(t)))
	must(t, s.Claim(ctx, b))
	b.Used = true
	must(t, s.Claim(ctx, b))
	must(t, s.Miss(ctx, overlay.Missed{Node: n.Name, Token: n.Token, Networks: []string{"x"}}))
	must(t, s.Miss(ctx, overlay.Missed{Node: n.Name}))
	name := overlaytest.Called("blue", n.Name, 1)
	name.Addresses = []netip.Addr{b.Prefix.Addr().Next()}
	must(t, s.PublishNames(ctx, []overlay.Name{name}, nil))
	must(t, s.PublishNames(ctx, nil, []overlay.NameKey{name.NameKey}))
	given, err := s.Given(ctx, n.Name)
	if err != nil || fmt.Sprint(given) != fmt.Sprint(podCIDRs) {
		t.Errorf("the Node gives %v, %v; want %v", given, err, podCIDRs)
	}
	must(t, s.Withdraw(ctx))
	must(t, s.Register(context.WithoutCancel(ctx), n, "boot", true, overlaytest.NotLost(t)))
	tell(t, admin, s.Client(), n.Name)
	for _, why := range []string{"no block", ""} {
		must(t, s.Report(ctx, why))
		var o nodeObject
		must(t, admin.Get(ctx, nodeObjects.Path(n.Name), &o))
		if got, want := condition(&o, "Ready"), map[string]string{"": "True ", "no block": "False "}[why]; !strings.HasPrefix(got, want) {
			t.Errorf("condition Ready is %q, want %q", got, want)
		}
	}
	f.Wait(t, "the block", func(st *overlay.State) bool { return st.Blocks[b.Key()].Used })
}

// tell has the Node told that pods can be attached, and before that they could not.
func tell(t *testing.T, admin, c *client.Client, name string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var ready atomic.Bool
	k := kubenode.Node{Client: c, Name: name, Patience: time.Millisecond, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Ready: func() string {
		if ready.Load() {
			return ""
		}
		return "a test"
	}}
	ended := make(chan struct{})
	go func() { defer close(ended); k.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	await(t, "an event", func() bool {
		told := 0
		_, err := admin.List(ctx, client.Events.In("default"), client.Selection{}, func(raw json.RawMessage) error {
			if strings.Contains(string(raw), `"uid":"`+name+`"`) {
				told++
			}
			return nil
		})
		must(t, err)
		return told > 0
	})
	ready.Store(true)
	var o nodeObject
	await(t, "the taint and the condition", func() bool {
		o = nodeObject{}
		must(t, c.Get(ctx, client.Nodes.Path(name), &o))
		gone := !slices.ContainsFunc(o.Spec.Taints, func(t taint) bool { return t.Key == kubenode.Taint })
		return gone && strings.HasPrefix(condition(&o, "NetworkUnavailable"), "False")
	})
}

func refused(t *testing.T, err error, why string) {
	t.Helper()
	if !client.IsForbidden(err) && !client.IsInvalid(err) || !strings.Contains(err.Error(), why) {
		t.Errorf("%v, want a refusal with %q", err, why)
	}
}

// stolen is what somebody tries who has the token of node a's agent.
func stolen(t *testing.T, s *APIServer, token, network string) {
	c, ctx := connect(t, s, "thief", token), t.Context()
	object := func(kind, name string, more map[string]any) map[string]any {
		o := map[string]any{"apiVersion": Group + "/v1", "kind": kind, "metadata": map[string]any{"name": name}}
		for k, v := range more {
			o[k] = v
		}
		return o
	}
	spec := func(of map[string]any) map[string]any { return map[string]any{"spec": of} }
	node := map[string]any{"token": "t", "address": "192.0.2.66", "mtu": 1500}
	block := func(node string) map[string]any {
		return map[string]any{"network": "blue", "node": node, "prefix": "10.42.9.0/24", "token": "tokenb"}
	}
	var lease client.Object
	must(t, c.Get(ctx, client.Leases.In(store.DefaultNamespace).Path("b"), &lease))
	var taken map[string]any
	must(t, c.Get(ctx, blockObjects.Path("10.42.2.0-24"), &taken))
	taken["spec"].(map[string]any)["node"] = "a"
	now := time.Now().UTC().Format(time.RFC3339)
	leases, names := client.Leases.In(store.DefaultNamespace), client.ConfigMaps.In(store.DefaultNamespace)
	const only = "agent of node a writes"
	for _, c := range []struct {
		what, why string
		err       error
	}{
		{"another node's address", only, c.Patch(ctx, nodeObjects.Path("b"), client.Merge, spec(map[string]any{"address": "192.0.2.66"}), nil)},
		{"another node's life", only, c.Patch(ctx, nodeObjects.Path("b"), client.Merge, map[string]any{"status": map[string]any{"agent": nil}}, nil)},
		{"another node", only, c.Delete(ctx, nodeObjects.Path("b"), "", "")},
		{"a new node", only, c.Create(ctx, nodeObjects.Path(), object("BerthNode", "c", spec(node)), nil)},
		{"another node's block", only, c.Delete(ctx, blockObjects.Path("10.42.2.0-24"), "", "")},
		{"a block for another node", only, c.Create(ctx, blockObjects.Path(), object("BerthBlock", "10.42.9.0-24", spec(block("b"))), nil)},
		{"another node's block made its own", "whose a block is does not change", c.Replace(ctx, blockObjects.Path("10.42.2.0-24"), taken, nil)},
		{"another node's lease", only, c.Replace(ctx, leases.Path("b"), lease, nil)},
		{"the lock", only, c.Create(ctx, leases.Path(), map[string]any{"metadata": map[string]any{"name": "berth-x"}}, nil)},
		{"another node's names", only, c.Create(ctx, names.Path(), map[string]any{"metadata": map[string]any{"name": "blue.b"}}, nil)},
		{"any configuration", only, c.Create(ctx, names.Path(), map[string]any{"metadata": map[string]any{"name": "a"}}, nil)},
		{"an order about a network", "is there, and an agent does not remove it", c.Create(ctx, orders.Path(), object("BerthRemoval", "x", spec(map[string]any{"network": "blue", "id": network, "at": now})), nil)},
		{"an order about a node", "is there, and an agent does not remove it", c.Create(ctx, orders.Path(), object("BerthRemoval", "y", spec(map[string]any{"node": "b", "id": "tokenb", "at": now})), nil)},
		{"an order with force", "orders nothing", c.Create(ctx, orders.Path(), object("BerthRemoval", "z", spec(map[string]any{"network": "red", "id": "z", "at": now, "forced": true})), nil)},
		{"a network", `cannot create resource "berthnetworks"`, c.Create(ctx, networkObjects.Path(), object("BerthNetwork", "mine", spec(map[string]any{"subnets": []string{"10.9.0.0/16"}})), nil)},
		{"the network", `cannot delete resource "berthnetworks"`, c.Delete(ctx, networkObjects.Path("blue"), "", "")},
		{"a definition", "cannot delete", c.Delete(ctx, client.Definitions.Path("berthnetworks.berth.dev"), "", "")},
		{"another Node", "writes the Node of that name alone", c.Patch(ctx, client.Nodes.Path("b"), client.Merge, map[string]any{"spec": map[string]any{"taints": []any{}}}, nil)},
		{"a label of its Node", "changes nothing else", c.Patch(ctx, client.Nodes.Path("a"), client.Merge, map[string]any{"metadata": map[string]any{"labels": map[string]string{"role": "secrets"}}}, nil)},
		{"others' taints of its Node", "changes nothing else", c.Patch(ctx, client.Nodes.Path("a"), client.Merge, map[string]any{"spec": map[string]any{"taints": nil}}, nil)},
		{"a taint for its Node", "changes nothing else", c.Patch(ctx, client.Nodes.Path("a"), client.Merge, map[string]any{"spec": map[string]any{"taints": append(taints, map[string]string{"key": "x", "effect": "NoExecute"})}}, nil)},
		{"a condition of its Node", "NetworkUnavailable alone", c.Patch(ctx, client.Nodes.Path("a", "status"), client.StrategicMerge, map[string]any{"status": map[string]any{"conditions": []map[string]string{{"type": "Ready", "status": "False"}}}}, nil)},
		{"another Node's condition", "writes the Node of that name alone", c.Patch(ctx, client.Nodes.Path("b", "status"), client.StrategicMerge, map[string]any{"status": map[string]any{"conditions": []map[string]string{{"type": "NetworkUnavailable", "status": "True"}}}}, nil)},
		{"all pods", "cannot list", c.Get(ctx, "/api/v1/pods", nil)},
		{"secrets", "cannot list", c.Get(ctx, "/api/v1/namespaces/"+store.DefaultNamespace+"/secrets", nil)},
		{"all Nodes", "cannot list", c.Get(ctx, client.Nodes.Path(), nil)},
	} {
		t.Run(c.what, func(t *testing.T) { refused(t, c.err, c.why) })
	}
}
