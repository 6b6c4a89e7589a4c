package rebuild

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/cni/bridged"
	"github.com/berth-cni/berth/pkg/conflist"
)

// Caches are the folders in which runtimes that use libcni keep what they asked for
// (libcni's CacheDir and results), as patterns.
func Caches() []string {
	return []string{"/var/lib/cni/results", "/var/lib/cni/*/results"}
}

// cacheKind is that of the files that name the attachment (libcni's CNICacheV1).
const cacheKind = "cniCacheV1"

// entry is what a runtime keeps of an ADD, as libcni writes it.
type entry struct {
	Kind         string                     `json:"kind"`
	Container    string                     `json:"containerId"`
	Config       []byte                     `json:"config"` // the network's, of the time of the ADD
	IfName       string                     `json:"ifName"`
	Network      string                     `json:"networkName"`
	Netns        string                     `json:"netns"`
	Args         [][2]string                `json:"cniArgs"`
	Capabilities map[string]json.RawMessage `json:"capabilityArgs"`
	Result       struct {
		IPs []cachedIP `json:"ips"`
	} `json:"result"`

	file    *conflist.File // Config
	written time.Time
}

type cachedIP struct {
	Address netip.Prefix `json:"address"`
	Gateway netip.Addr   `json:"gateway"`
}

// UnmarshalJSON leaves out what is no address.
func (ip *cachedIP) UnmarshalJSON(data []byte) error {
	var words struct{ Address, Gateway string }
	if json.Unmarshal(data, &words) == nil {
		ip.Address, _ = netip.ParsePrefix(words.Address)
		ip.Gateway, _ = netip.ParseAddr(words.Gateway)
	}
	return nil
}

// readCaches reads the files of all folders. What is none of libcni's is passed over: the
// folders are the runtimes'.
func readCaches(patterns []string) (all []*entry) {
	const most = 1 << 20 // bytes
	for _, pattern := range patterns {
		paths, _ := filepath.Glob(filepath.Join(pattern, "*"))
		for _, path := range paths {
			info, err := os.Stat(path)
			if err != nil || !info.Mode().IsRegular() || info.Size() > most {
				continue
			}
			data, err := os.ReadFile(path)
			if err != nil {
				continue
			}
			if e, ok := parseEntry(data); ok {
				e.written = info.ModTime()
				all = append(all, e)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *entry) int { return a.written.Compare(b.written) })
	return all
}

func parseEntry(data []byte) (*entry, bool) {
	e := &entry{}
	if json.Unmarshal(data, e) != nil || e.Kind != cacheKind {
		return nil, false
	}
	if !cni.ValidKey(e.Network, e.Container, e.IfName) {
		return nil, false
	}
	file, err := conflist.Parse(e.Config)
	if err != nil || file.Name != e.Network {
		return nil, false
	}
	e.file = file
	return e, true
}

func (e *entry) key() attach.Key {
	return attach.Key{Network: e.Network, Container: e.Container, IfName: e.IfName}
}

// asked are the keys of a configuration that a record follows from and the kernel does not
// tell.
type asked struct{ bridged.Conf }

// Plan implements [cni.Config]; nothing is added.
func (*asked) Plan(*cni.Request) ([]attach.Step, error) { return nil, nil }

// request is the ADD that a plugin of the network got; nil when there is no telling.
func (e *entry) request(p *conflist.Plugin) (*cni.Request, *bridged.Conf) {
	var args []string
	for _, pair := range e.Args {
		args = append(args, pair[0]+"="+pair[1])
	}
	conf := &asked{}
	r, err := cni.NewRequest(&cni.CmdArgs{ContainerID: e.Container, Netns: e.Netns, IfName: e.IfName,
		Args: strings.Join(args, ";"), StdinData: e.input(p)}, conf)
	if err != nil {
		return nil, &conf.Conf
	}
	return r, &conf.Conf
}

// input is what libcni hands to a plugin: its configuration with the network's name and
// version, and what the runtime gave for the capabilities that it declares.
func (e *entry) input(p *conflist.Plugin) []byte {
	conf := map[string]any{}
	if json.Unmarshal(p.Raw, &conf) != nil {
		return nil
	}
	conf["name"], conf["cniVersion"] = e.Network, e.file.Version([]string{"0.4.0", "1.0.0", "1.1.0"})
	given := map[string]json.RawMessage{}
	for name, declared := range p.Capabilities {
		if value, ok := e.Capabilities[name]; ok && declared {
			given[name] = value
		}
	}
	if len(given) > 0 {
		conf["runtimeConfig"] = given
	}
	data, err := json.Marshal(conf)
	if err != nil {
		return nil
	}
	return data
}
