package conflist

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/internal/schema"
	"github.com/berth-cni/berth/pkg/ipam"
)

// File is a configuration in the folder, of whoever.
type File struct {
	Path     string
	Name     string   // of the network
	Versions []string // of CNI
	Mark     *Mark    // nil: we have not made it
	Plugins  []Plugin // at least one
	Data     []byte
}

// Mark is our own key of a conflist, which runtimes ignore.
type Mark struct {
	Created time.Time         `json:"created"` // UTC
	Driver  string            `json:"driver"`
	Labels  map[string]string `json:"labels,omitempty"`
	// Aux are the addresses that --aux-address keeps from containers, by name.
	Aux map[string]netip.Addr `json:"auxAddresses,omitempty"`
	// KeepLink says that the bridge was there before the network, and stays after it.
	KeepLink bool `json:"keepLink,omitempty"`
}

// Plugin is one of a network's chain.
type Plugin struct {
	Conf          // whose Type is the plugin's first name
	Binary string // the type as it is written, which is the name of its file: berth-bridge
	Raw    json.RawMessage
}

// extensions are what runtimes read.
var extensions = []string{".conf", extension, ".json"}

// List returns the networks of the folder in the order of the files' names, which is
// the runtimes'. What cannot be read keeps no other back: the error names it, beside
// the list. A folder that is not there has none.
func (d Dir) List() ([]*File, error) {
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	var all []*File
	var errs []error
	for _, e := range entries {
		if e.IsDir() || !slices.Contains(extensions, filepath.Ext(e.Name())) {
			continue
		}
		f, err := read(filepath.Join(string(d), e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone since
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if i := slices.IndexFunc(all, func(o *File) bool { return o.Name == f.Name }); i >= 0 {
			errs = append(errs, fmt.Errorf("%s: network %s is in %s, too: runtimes take that one", f.Path, f.Name, all[i].Path))
			continue
		}
		all = append(all, f)
	}
	return all, errors.Join(errs...)
}

// Find returns the network of that name; nil when there is none.
func Find(all []*File, name string) *File {
	if i := slices.IndexFunc(all, func(f *File) bool { return f.Name == name }); i >= 0 {
		return all[i]
	}
	return nil
}

// Parse reads a configuration that is in no folder: its File has no path.
func Parse(data []byte) (*File, error) { return decode(data) }

func read(path string) (*File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f.Path = path
	return f, nil
}

// decode reads a list of plugins, or the configuration of a single one.
func decode(data []byte) (*File, error) {
	var list struct {
		Name     string            `json:"name"`
		Version  string            `json:"cniVersion"`
		Versions []string          `json:"cniVersions"`
		Berth    *Mark             `json:"berth"`
		Plugins  []json.RawMessage `json:"plugins"`
	}
	var syntax *schema.SyntaxError
	if err := (*schema.Table)(nil).Decode("", data, &list); errors.As(err, &syntax) {
		return nil, fmt.Errorf("is no CNI configuration: %s", syntax.Where)
	} else if err != nil {
		return nil, fmt.Errorf("is no CNI configuration: %w", err)
	}
	f := &File{Name: list.Name, Versions: list.Versions, Mark: list.Berth, Data: data}
	if len(f.Versions) == 0 && list.Version != "" {
		f.Versions = []string{list.Version}
	}
	if list.Plugins == nil {
		list.Plugins = []json.RawMessage{data}
	}
	for i, raw := range list.Plugins {
		p := Plugin{Raw: raw}
		if err := p.decode(fmt.Sprintf("plugins[%d]", i)); err != nil {
			return nil, fmt.Errorf("is no CNI configuration: %w", err)
		}
		f.Plugins = append(f.Plugins, p)
	}
	if f.Name == "" || len(f.Plugins) == 0 || f.Plugins[0].Type == "" {
		return nil, errors.New("is no CNI configuration: want a name, and a plugin with a type")
	}
	return f, nil
}

// decode reads the keys of the plugin. path is its place in the file. Of another suite's
// plugin, a key may mean anything.
func (p *Plugin) decode(path string) error {
	var kind struct {
		Type string `json:"type"`
	}
	if err := schema.Common.Decode(path, p.Raw, &kind); err != nil {
		return err
	}
	name := schema.Canonical(kind.Type)
	var err error
	if table := schema.Plugin(name); table != nil {
		err = table.Decode(path, p.Raw, &p.Conf)
	} else {
		_ = json.Unmarshal(p.Raw, &p.Conf)
	}
	p.Type, p.Binary = name, kind.Type
	return err
}

// Slips are the keys of the network's plugins that do not do what whoever wrote them may
// believe, each with its path, its value, and what to write; as the plugin says it with
// each ADD.
func (f *File) Slips() []string {
	var all []string
	for _, p := range f.Plugins {
		table := schema.Plugin(p.Type)
		if table == nil {
			continue
		}
		found := table.Look(p.Type, p.Raw)
		if p.IPAM != nil && (p.IPAM.Type == "" || p.IPAM.Type == ipam.BuiltInType) {
			var keys struct {
				IPAM json.RawMessage `json:"ipam"`
			}
			_ = json.Unmarshal(p.Raw, &keys) // it was decoded before
			found = append(found, schema.IPAM.Look(p.Type+".ipam", keys.IPAM)...)
		}
		for _, x := range found {
			all = append(all, x.String())
		}
	}
	return all
}

// Version is the last of some versions of CNI, the oldest first, that the network is
// for; else what it says first.
func (f *File) Version(spoken []string) string {
	for _, v := range slices.Backward(spoken) {
		if slices.Contains(f.Versions, v) {
			return v
		}
	}
	if len(f.Versions) > 0 {
		return f.Versions[0]
	}
	return ""
}

// Driver is the type of the plugin that makes the interface.
func (f *File) Driver() string { return f.Plugins[0].Type }

// Foreign are the types of plugins in the chain that Berth has none of.
func (f *File) Foreign() []string {
	var all []string
	for _, p := range f.Plugins {
		if !slices.Contains(drivers, p.Type) {
			all = append(all, p.Type)
		}
	}
	return all
}

// The drivers.
const (
	Bridge  = "bridge"
	Macvlan = "macvlan"
	IPVlan  = "ipvlan"
	Overlay = "vxlan-overlay"
	Host    = "host"
	None    = "none"
	Share   = "container-share"
)

// OnParent tells whether a driver's containers are on the network of an interface of the
// host, the parent.
func OnParent(driver string) bool { return driver == Macvlan || driver == IPVlan }

var drivers = []string{Bridge, Macvlan, IPVlan, Overlay, Host, None, Share}

// Link is the host's interface that the network is on: the bridge, or the
// parent. Empty: none, or not known from the file.
func (f *File) Link() string {
	c := f.Plugins[0].Conf
	switch c.Type {
	case Bridge:
		if f.Routed() {
			return ""
		}
		if c.Bridge == "" {
			return "cni0" // the plugin's default
		}
		return c.Bridge
	case Macvlan, IPVlan:
		return c.Master
	}
	return ""
}

// Routed tells whether the network's containers are on no bridge of the host, which routes to
// each.
func (f *File) Routed() bool {
	c := f.Plugins[0].Conf
	return (c.Type == Bridge || c.Type == Overlay) && c.Mode == "routed"
}

// Taken are the subnets of the network, whichever plugin gives their addresses.
func (f *File) Taken() []Taken {
	var all []Taken
	for _, p := range f.Plugins {
		for _, r := range p.IPAM.all() {
			t := Taken{Prefix: r.Subnet, By: "network " + f.Name, Link: f.Link(), Driver: f.Driver()}
			t.from, t.to = r.span()
			all = append(all, t)
		}
	}
	return all
}
