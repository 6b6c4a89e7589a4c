package static

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/overlay"
)

// file is what people write.
type file struct {
	Networks map[string]network `yaml:"networks"`
	Nodes    map[string]node    `yaml:"nodes"`
}

type network struct {
	Subnets    []netip.Prefix    `yaml:"subnets"`
	NodePrefix []int             `yaml:"nodePrefix"`
	VNI        int               `yaml:"vni"`
	Port       int               `yaml:"port"`
	MTU        int               `yaml:"mtu"`
	Internal   bool              `yaml:"internal"`
	Isolate    bool              `yaml:"isolate"`
	NoICC      bool              `yaml:"noicc"`
	Encrypted  bool              `yaml:"encrypted"`
	Labels     map[string]string `yaml:"labels"`
}

type node struct {
	Address   netip.Addr                `yaml:"address"`
	MTU       int                       `yaml:"mtu"`
	PublicKey string                    `yaml:"publicKey"`
	Blocks    map[string][]netip.Prefix `yaml:"blocks"`
}

// parser collects what is wrong, each with its line.
type parser struct {
	root  yaml.Node
	state *overlay.State
	errs  []error
}

// parse returns what a file says, or all that is wrong with it.
func parse(data []byte) (*overlay.State, error) {
	p := &parser{state: overlay.NewState()}
	var f file
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil && !errors.Is(err, io.EOF) { // an empty file is no peers
		return nil, err // has the line
	}
	if err := yaml.Unmarshal(data, &p.root); err != nil {
		return nil, err
	}
	var u overlay.Update
	for _, name := range slices.Sorted(maps.Keys(f.Networks)) {
		u.Networks = append(u.Networks, p.network(name, f.Networks[name]))
	}
	p.state.Apply(u)
	for name, err := range p.state.Conflicts() {
		p.refuse(err, "networks", name)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Nodes)) {
		p.node(name, f.Nodes[name])
	}
	if len(p.errs) > 0 {
		slices.SortFunc(p.errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
		return nil, errors.Join(p.errs...)
	}
	return p.state, nil
}

func (p *parser) network(name string, in network) overlay.Network {
	n := overlay.Network{Name: name, Subnets: in.Subnets, NodePrefix: in.NodePrefix, VNI: in.VNI, Port: in.Port, MTU: in.MTU,
		Internal: in.Internal, Isolate: in.Isolate, NoICC: in.NoICC, Labels: in.Labels, Encrypted: in.Encrypted}
	if n.Encrypted { // its port is WireGuard's
		n.Port, n.ListenPort = 0, cmp.Or(in.Port, overlay.FirstListen)
	}
	n.SetDefaults()
	p.refuse(n.Validate(), "networks", name)
	// One that says something else is another network.
	said, err := json.Marshal(n)
	p.refuse(err, "networks", name)
	n.ID = hex.EncodeToString(attach.Digest(said))
	return n
}

func (p *parser) node(name string, in node) {
	n := overlay.Node{Name: name, Token: token(name), Address: in.Address, MTU: in.MTU, PublicKey: in.PublicKey}
	if n.MTU == 0 {
		n.MTU = 1500
	}
	p.refuse(n.Validate(), "nodes", name)
	for _, o := range p.state.Nodes {
		if o.Address == n.Address {
			p.refuse(fmt.Errorf("address: %s: is that of node %q", n.Address, o.Name), "nodes", name)
		}
	}
	u := overlay.Update{Nodes: []overlay.Node{n}}
	for _, network := range slices.Sorted(maps.Keys(in.Blocks)) {
		for _, prefix := range in.Blocks[network] {
			b := overlay.Block{Network: network, Prefix: prefix, Node: name, Token: n.Token}
			p.refuse(p.block(b), "nodes", name, "blocks", network)
			u.Blocks = append(u.Blocks, b)
		}
	}
	p.state.Apply(u)
}

func (p *parser) block(b overlay.Block) error {
	of, ok := p.state.Networks[b.Network]
	if !ok {
		return fmt.Errorf("%s: is none of networks", b.Network)
	}
	if !of.Contains(b.Prefix) {
		return fmt.Errorf("%s: want a block of %v with a length of %v", b.Prefix, of.Subnets, of.NodePrefix)
	}
	if old, ok := p.state.Blocks[b.Key()]; ok {
		return fmt.Errorf("%s: is node %q's", b.Prefix, old.Node)
	}
	return nil
}

// token is a node's: the file is what says who is who.
func token(node string) string { return hex.EncodeToString(attach.Digest([]byte(node))) }

// refuse notes an error at the line of a path of keys.
func (p *parser) refuse(err error, path ...string) {
	if err == nil {
		return
	}
	line, at := 1, &p.root
	if at.Kind == yaml.DocumentNode {
		at = at.Content[0]
	}
	for _, key := range path {
		for i := 0; i+1 < len(at.Content) && at.Kind == yaml.MappingNode; i += 2 {
			if at.Content[i].Value == key {
				line, at = at.Content[i].Line, at.Content[i+1]
				break
			}
		}
	}
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	p.errs = append(p.errs, fmt.Errorf("line %d: %s: %s", line, strings.Join(path, "."), text))
}

// full is a state as an update, in the order of the names.
func full(s *overlay.State) overlay.Update {
	u := overlay.Update{Full: true}
	for _, name := range slices.Sorted(maps.Keys(s.Networks)) {
		u.Networks = append(u.Networks, s.Networks[name])
	}
	for _, name := range slices.Sorted(maps.Keys(s.Nodes)) {
		u.Nodes = append(u.Nodes, s.Nodes[name])
		for _, network := range u.Networks {
			for _, prefix := range s.BlocksOf(network.Name, name) {
				u.Blocks = append(u.Blocks, s.Blocks[overlay.BlockKey{Network: network.Name, Prefix: prefix}])
			}
		}
	}
	return u
}

func equal(a, b *overlay.State) bool { return reflect.DeepEqual(full(a), full(b)) }
