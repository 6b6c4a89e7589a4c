package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
)

// CacheDir is where on the host libcni keeps results between calls.
const CacheDir = "/var/lib/cni/cache-libcni"

// Network drives the plugins of one conflist on one host, as a runtime does.
// Its methods may be called concurrently.
type Network struct {
	List *libcni.NetworkConfigList
	cni  *libcni.CNIConfig
	do   func(func() error) error
}

// Here returns the network for a caller that is in [Host.Do] already: calls run on
// the calling thread, and cost no thread of their own.
func (n Network) Here() *Network {
	n.do = func(fn func() error) error { return fn() }
	return &n
}

// Network parses a conflist. Plugins are looked for in dirs, in order.
func (h *Host) Network(conflist string, dirs ...string) (*Network, error) {
	return h.NetworkExec(nil, conflist, dirs...)
}

// NetworkExec is [Host.Network] with another way of starting plugins.
func (h *Host) NetworkExec(exec invoke.Exec, conflist string, dirs ...string) (*Network, error) {
	list, err := libcni.NetworkConfFromBytes([]byte(conflist))
	if err != nil {
		return nil, err
	}
	return &Network{list, libcni.NewCNIConfigWithCacheDir(dirs, CacheDir, exec), h.Do}, nil
}

// Option changes what a runtime passes for one container.
type Option func(*libcni.RuntimeConf)

// Cap passes a capability argument, any value that has a JSON form.
func Cap(name string, value any) Option {
	return func(rt *libcni.RuntimeConf) {
		if rt.CapabilityArgs == nil {
			rt.CapabilityArgs = map[string]any{}
		}
		rt.CapabilityArgs[name] = value
	}
}

// Arg passes a pair in CNI_ARGS.
func Arg(key, value string) Option {
	return func(rt *libcni.RuntimeConf) { rt.Args = append(rt.Args, [2]string{key, value}) }
}

// Netns passes another path in CNI_NETNS; empty as runtimes do when it is gone.
func Netns(path string) Option {
	return func(rt *libcni.RuntimeConf) { rt.NetNS = path }
}

// IfName asks for another name than eth0.
func IfName(name string) Option {
	return func(rt *libcni.RuntimeConf) { rt.IfName = name }
}

func runtimeConf(c *Container, opts []Option) *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{ContainerID: c.ID, NetNS: c.Netns, IfName: "eth0"}
	for _, o := range opts {
		o(rt)
	}
	return rt
}

// Add attaches the container. The result has the conflist's version.
func (n *Network) Add(c *Container, opts ...Option) (res types.Result, err error) {
	err = n.do(func() error {
		res, err = n.cni.AddNetworkList(context.Background(), n.List, runtimeConf(c, opts))
		return err
	})
	return res, err
}

// AddJSON is [Network.Add] with the result as JSON.
func (n *Network) AddJSON(c *Container, opts ...Option) (string, error) {
	res, err := n.Add(c, opts...)
	if err != nil {
		return "", err
	}
	data, err := json.Marshal(res)
	return string(data), err
}

// Del detaches the container.
func (n *Network) Del(c *Container, opts ...Option) error {
	return n.do(func() error {
		return n.cni.DelNetworkList(context.Background(), n.List, runtimeConf(c, opts))
	})
}

// Check checks the attachment against the result of ADD.
func (n *Network) Check(c *Container, opts ...Option) error {
	return n.do(func() error {
		return n.cni.CheckNetworkList(context.Background(), n.List, runtimeConf(c, opts))
	})
}

// GC ends all attachments but those of the containers given.
func (n *Network) GC(valid ...*Container) error {
	args := &libcni.GCArgs{ValidAttachments: []types.GCAttachment{}}
	for _, c := range valid {
		args.ValidAttachments = append(args.ValidAttachments, types.GCAttachment{ContainerID: c.ID, IfName: "eth0"})
	}
	return n.do(func() error { return n.cni.GCNetworkList(context.Background(), n.List, args) })
}

// Status asks whether an ADD could work now.
func (n *Network) Status() error {
	return n.do(func() error { return n.cni.GetStatusNetworkList(context.Background(), n.List) })
}

// DropCache has libcni forget all results, as if the runtime lost its state.
func (n *Network) DropCache() error {
	return n.do(func() error { return os.RemoveAll(CacheDir) })
}

// Code is the CNI error code (SPEC 1.1.0, section 5, "Error") of what a call
// returned; 0 when it has none.
func Code(err error) uint {
	var e *types.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// Binaries is the folder of Berth's plugins: BERTH_BIN, or bin beside the
// integration folder. References is the folder of the reference plugins and cnitool
// that `make tools` built. An error when they are not there.
func Binaries() (string, error) {
	dir := os.Getenv("BERTH_BIN")
	if dir == "" {
		root, err := moduleDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(root, "..", "bin")
	}
	return hasBridge(dir, "`make build` makes it")
}

// References: see [Binaries].
func References() (string, error) {
	root, err := moduleDir()
	if err != nil {
		return "", err
	}
	return hasBridge(filepath.Join(root, ".bin"), "`make -C integration tools` makes it")
}

func hasBridge(dir, hint string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, "bridge")); err != nil {
		return "", fmt.Errorf("%w: %s", err, hint)
	}
	return dir, nil
}

// moduleDir is the nearest folder up from the working directory with a go.mod.
func moduleDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}
