package kubernetes

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// The custom resources, as far as they are the model's. Times are nil where the model's are
// zero.
type (
	networkObject struct {
		client.Object
		Spec networkSpec `json:"spec"`
	}
	networkSpec struct {
		ID         string            `json:"id,omitempty"`
		Subnets    []netip.Prefix    `json:"subnets"`
		NodePrefix []int             `json:"nodePrefix,omitempty"`
		VNI        int               `json:"vni,omitempty"`
		Port       int               `json:"port,omitempty"`
		MTU        int               `json:"mtu,omitempty"`
		Encrypted  bool              `json:"encrypted,omitempty"`
		ListenPort int               `json:"listenPort,omitempty"`
		PodCIDRs   bool              `json:"podCIDRs,omitempty"`
		Sticky     string            `json:"sticky,omitempty"`
		Internal   bool              `json:"internal,omitempty"`
		Isolate    bool              `json:"isolate,omitempty"`
		NoICC      bool              `json:"noicc,omitempty"`
		Names      bool              `json:"names,omitempty"`
		Labels     map[string]string `json:"labels,omitempty"`
	}

	nodeObject struct {
		client.Object
		Spec   nodeSpec   `json:"spec"`
		Status nodeStatus `json:"status"`
	}
	nodeSpec struct {
		Token     string     `json:"token"`
		Address   netip.Addr `json:"address"`
		MTU       int        `json:"mtu"`
		PublicKey string     `json:"publicKey,omitempty"`
		NextKey   string     `json:"nextPublicKey,omitempty"`
	}
	nodeStatus struct {
		Since   *time.Time `json:"since,omitempty"`
		Seen    *time.Time `json:"seen,omitempty"`
		Left    *time.Time `json:"left,omitempty"`
		Agent   *agentLife `json:"agent,omitempty"`
		Missing []string   `json:"missing,omitempty"`
		Expired []string   `json:"expired,omitempty"`
	}
	agentLife struct {
		Instance string     `json:"instance"`
		Since    *time.Time `json:"since,omitempty"`
	}

	blockObject struct {
		client.Object
		Spec   blockSpec   `json:"spec"`
		Status blockStatus `json:"status"`
	}
	blockSpec struct {
		Network string       `json:"network"`
		Node    string       `json:"node"`
		Prefix  netip.Prefix `json:"prefix"`
		Token   string       `json:"token"`
	}
	blockStatus struct {
		Used bool `json:"used"`
	}

	removalObject struct {
		client.Object
		Spec removalSpec `json:"spec"`
	}
	removalSpec struct {
		Network string    `json:"network,omitempty"`
		Node    string    `json:"node,omitempty"`
		ID      string    `json:"id"`
		By      string    `json:"by,omitempty"`
		At      time.Time `json:"at"`
		Forced  bool      `json:"forced,omitempty"`
	}
)

const (
	maxObject = 64 << 10 // bytes; one of ours has some hundreds
	maxText   = 512      // bytes of foreign text that an error repeats
)

func (s *Store) object(kind, name string) client.Object {
	return client.Object{APIVersion: s.networks.APIVersion(), Kind: kind, Metadata: client.Meta{Name: name}}
}

// moment is a time as objects have it: whole seconds; nil for none.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}

func when(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// validName tells what of a network's name Kubernetes does not take: RFC 1123's labels.
func validName(name string) error {
	if err := overlay.ValidName(name); err != nil {
		return err
	}
	if len(name) > 63 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || name[0] == '-' || name[len(name)-1] == '-' {
		return errors.New("want lower case letters, digits and -, 63 at most, as Kubernetes has names")
	}
	return nil
}

// network is what a network's object says. What it leaves out follows from its UID: every
// host finds the same, and nobody has to write it.
func (o *networkObject) network() (overlay.Network, error) {
	m, x := o.Metadata, o.Spec
	n := overlay.Network{
		Name: m.Name, ID: cmp.Or(x.ID, m.UID), Subnets: x.Subnets, NodePrefix: x.NodePrefix, VNI: x.VNI, Port: x.Port, MTU: x.MTU,
		Encrypted: x.Encrypted, ListenPort: x.ListenPort, PodCIDRs: x.PodCIDRs, Sticky: x.Sticky, Internal: x.Internal, Isolate: x.Isolate, NoICC: x.NoICC, Names: x.Names,
		Labels: x.Labels, Created: when(m.Created),
	}
	if n.VNI == 0 {
		n.VNI = vniOf(m.UID)
	}
	if n.Encrypted && n.ListenPort == 0 {
		n.ListenPort = overlay.FirstListen
	}
	n.SetDefaults()
	if n.ID == "" || len(n.ID) > 128 {
		return n, fmt.Errorf("id: want 1 to 128 bytes, got %d", len(n.ID))
	}
	return n, n.Validate()
}

// vniOf is a VNI of the upper half, which those that are chosen one after the other do not
// come to. Of 100 networks without one, two have the same in 1 of 1,700 clusters: then the
// later one is refused by every host, with the reason.
func vniOf(uid string) int {
	h := fnv.New32a()
	h.Write([]byte(uid))
	const half = (overlay.MaxVNI + 1) / 2
	return half + int(h.Sum32()%half)
}

func (s *Store) networkObject(n *overlay.Network) networkObject {
	return networkObject{s.object("BerthNetwork", n.Name), networkSpec{
		ID: n.ID, Subnets: n.Subnets, NodePrefix: n.NodePrefix, VNI: n.VNI, Port: n.Port, MTU: n.MTU, Encrypted: n.Encrypted, ListenPort: n.ListenPort,
		PodCIDRs: n.PodCIDRs, Sticky: n.Sticky, Internal: n.Internal, Isolate: n.Isolate, NoICC: n.NoICC, Names: n.Names, Labels: n.Labels,
	}}
}

func (o *nodeObject) node() (overlay.Node, error) {
	x := o.Spec
	n := overlay.Node{Name: o.Metadata.Name, Token: x.Token, Address: x.Address, MTU: x.MTU, PublicKey: x.PublicKey, NextKey: x.NextKey,
		Since: when(o.Status.Since), Seen: when(o.Status.Seen)}
	return n, n.Validate()
}

func (s *Store) nodeObject(n *overlay.Node) nodeObject {
	return nodeObject{s.object("BerthNode", n.Name), nodeSpec{n.Token, n.Address, n.MTU, n.PublicKey, n.NextKey},
		nodeStatus{Since: moment(n.Since), Seen: moment(n.Seen)}}
}

// blockName is the name of a block's object: of every prefix another one.
func blockName(p netip.Prefix) string {
	return strings.NewReplacer(":", "-", "/", "-").Replace(p.String())
}

func (o *blockObject) block() (overlay.Block, error) {
	b := overlay.Block{Network: o.Spec.Network, Prefix: o.Spec.Prefix, Node: o.Spec.Node, Token: o.Spec.Token, Used: o.Status.Used}
	if want := blockName(b.Prefix); o.Metadata.Name != want {
		return b, fmt.Errorf("holds the block %s, whose name is %s", b.Prefix, want)
	}
	return b, b.Validate()
}

// blockObject is one of a node, with which it goes; owner is the node's object.
func (s *Store) blockObject(b overlay.Block, owner *nodeObject) blockObject {
	o := blockObject{s.object("BerthBlock", blockName(b.Prefix)), blockSpec{b.Network, b.Node, b.Prefix, b.Token}, blockStatus{b.Used}}
	o.Metadata.Owners = s.owned(owner)
	return o
}

// owned is by which an object goes with a node's.
func (s *Store) owned(by *nodeObject) []client.Owner {
	if by == nil || by.Metadata.UID == "" {
		return nil
	}
	return []client.Owner{{APIVersion: s.nodes.APIVersion(), Kind: "BerthNode", Name: by.Metadata.Name, UID: by.Metadata.UID}}
}

// removalName has a hash of what the removal is of, which may be any bytes.
func removalName(k overlay.RemovalKey) string {
	kind := "network"
	if k.Node != "" {
		kind = "node"
	}
	return kind + "-" + hex.EncodeToString(attach.Digest([]byte(k.Node+"\x00"+k.ID)))
}

func (o *removalObject) removal() (overlay.Removal, error) {
	x := o.Spec
	r := overlay.Removal{Network: x.Network, Node: x.Node, ID: x.ID, By: x.By, At: x.At.UTC(), Forced: x.Forced}
	if want := removalName(r.Key()); o.Metadata.Name != want {
		return r, fmt.Errorf("holds the removal of %q, whose name is %s", r.Network+r.Node, want)
	}
	return r, r.Validate()
}

func (s *Store) removalObject(r overlay.Removal) removalObject {
	return removalObject{s.object("BerthRemoval", removalName(r.Key())),
		removalSpec{r.Network, r.Node, r.ID, r.By, r.At.UTC().Truncate(time.Second), r.Forced}}
}

// decode reads an object that may be anybody's.
func decode[T any](raw json.RawMessage) (T, error) {
	var o T
	if len(raw) > maxObject {
		return o, fmt.Errorf("has %d bytes, want %d at most", len(raw), maxObject)
	}
	return o, json.Unmarshal(raw, &o)
}

// badKey is how people are told of an object and its error: on one line, not too long.
func badKey(key string, err error) overlay.BadKey {
	return overlay.BadKey{Key: printable(key), Err: errors.New(strings.ReplaceAll(clip(err.Error()), "\n", "; "))}
}

// printable is the key as it is, unless that could confuse a terminal or a log.
func printable(key string) string {
	if quoted := strconv.Quote(key); quoted != `"`+key+`"` {
		key = quoted
	}
	return clip(key)
}

func clip(text string) string {
	if len(text) > maxText {
		return text[:maxText] + "..."
	}
	return text
}
