package connect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

// add has the network's plugins attach the container, as a runtime does. What libcni
// keeps of it is thrown away: with it a runtime's GC would ask to delete what the runtime
// does not know. The record has all that it takes to undo it.
func (c *Config) add(ctx context.Context, o *Options, f *conflist.File, to *container, k attach.Key) error {
	list, err := o.configure(f)
	if err != nil {
		return err
	}
	cache, err := os.MkdirTemp("", "berth-connect-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(cache)
	run := &plugins{stateDir: c.Networks.Store.Dir(), stderr: c.Stderr}
	_, err = libcni.NewCNIConfigWithCacheDir(c.PluginDirs, cache, run).AddNetworkList(ctx, list, &libcni.RuntimeConf{
		ContainerID: k.Container, NetNS: to.netns, IfName: k.IfName, Args: o.args(to), CapabilityArgs: o.capabilities(),
	})
	if err == nil {
		return nil
	}
	var said *types.Error
	var own *pluginError
	switch { // these say which plugin it was, and need no words of libcni's in front
	case errors.As(err, &said):
		err = said
	case errors.As(err, &own):
		err = own
	}
	ctx = context.WithoutCancel(ctx)
	for _, role := range []attach.Role{attach.Chained, attach.Main} {
		k.Role = role
		if a, getErr := c.Networks.Store.Get(ctx, k); getErr == nil && a.Connected && a.Cookie == to.cookie {
			// The plugin has been killed, or could not take back what it had made; or a later one failed.
			err = errors.Join(err, c.Networks.Store.Disconnect(ctx, k))
		}
	}
	return err
}

// args are CNI_ARGS.
func (o *Options) args(to *container) [][2]string {
	how := cni.Connected
	if to.noWayOut() && o.Priority >= 0 {
		how = cni.ConnectedRoute
	}
	args := [][2]string{{"IgnoreUnknown", "1"}, {cni.ArgConnected, how}}
	if o.Priority > 0 {
		args = append(args, [2]string{cni.ArgGatewayPriority, strconv.Itoa(o.Priority)})
	}
	if to.name != "" && !strings.Contains(to.name, ";") {
		args = append(args, [2]string{"K8S_POD_NAME", to.name})
	}
	if len(o.IPs) > 0 {
		words := make([]string, len(o.IPs))
		for i, ip := range o.IPs {
			words[i] = ip.String()
		}
		args = append(args, [2]string{"IP", strings.Join(words, ",")})
	}
	if o.MAC != "" {
		args = append(args, [2]string{"MAC", o.MAC})
	}
	return args
}

// configure is what the chain's plugins read. What is wanted of the network goes to the
// plugin that makes the interface, whether or not it declares the capability to runtimes.
func (o *Options) configure(f *conflist.File) (*libcni.NetworkConfigList, error) {
	list := &libcni.NetworkConfigList{Name: f.Name, CNIVersion: f.Version(cni.Versions), Bytes: f.Data}
	for i, plugin := range f.Plugins {
		var keys map[string]any
		if err := json.Unmarshal(plugin.Raw, &keys); err != nil {
			return nil, err
		}
		wanted := map[string]bool{}
		if i == 0 {
			for capability := range o.capabilities() {
				wanted[capability] = true
			}
			if err := o.addLinks(keys); err != nil {
				return nil, err
			}
		}
		keys["capabilities"] = wanted // by which libcni chooses what a plugin gets
		raw, err := json.Marshal(keys)
		if err != nil {
			return nil, err
		}
		conf, err := libcni.NetworkPluginConfFromBytes(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
		list.Plugins = append(list.Plugins, conf)
	}
	return list, nil
}

// capabilities are runtimeConfig, with the keys of the conventions.
func (o *Options) capabilities() map[string]any {
	all := map[string]any{}
	if len(o.Aliases) > 0 {
		all["aliases"] = o.Aliases
	}
	if len(o.Ports) > 0 {
		all["portMappings"] = o.Ports
	}
	return all
}
