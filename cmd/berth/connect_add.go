package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// runAdd has the network's plugins attach the container, as a runtime does by libcni
// (SPEC 1.1.0, section 3), but keeps no results: with them a runtime's GC would ask to
// delete what the runtime does not know. The record has all that it takes to undo it.
func (p *program) runAdd(ctx context.Context, w *connection, f *conflist.File, c *container, k attach.Key) error {
	var result json.RawMessage
	var err error
	for i := range f.Plugins {
		if result, err = p.runPlugin(ctx, w, f, i, c, k, result); err != nil {
			break
		}
	}
	if err == nil {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	for _, role := range []attach.Role{attach.Chained, attach.Main} {
		k.Role = role
		if a, getErr := p.hostStore().Get(ctx, k); getErr == nil && a.Connected && a.Cookie == c.cookie {
			// The plugin has been killed, or could not take back what it had made; or a later one failed.
			err = errors.Join(err, p.hostStore().Disconnect(ctx, k))
		}
	}
	return err
}

// patience is how long a plugin that was told to end may take.
const patience = 10 * time.Second

// runPlugin runs ADD of one plugin of the chain, and returns the result.
func (p *program) runPlugin(ctx context.Context, w *connection, f *conflist.File, i int, c *container, k attach.Key, prev json.RawMessage) (json.RawMessage, error) {
	path, err := p.findPlugin(f.Plugins[i].Type)
	if err != nil {
		return nil, err
	}
	conf, err := w.configure(f, i, prev)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) } // it takes back what it has made
	cmd.WaitDelay = patience
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(conf), &out, p.err
	cmd.Env = append(os.Environ(), "CNI_COMMAND=ADD", "CNI_CONTAINERID="+k.Container, "CNI_NETNS="+c.netns, "CNI_IFNAME="+k.IfName,
		"CNI_PATH="+p.settings.binDir, "CNI_ARGS="+w.args(c), attach.DirEnv+"="+p.settings.stateDir)
	if err := cmd.Run(); err != nil {
		var said types.Error
		if json.Unmarshal(out.Bytes(), &said) == nil && said.Msg != "" {
			return nil, &said
		}
		return nil, fmt.Errorf("run %s: %w", path, err)
	}
	return out.Bytes(), nil
}

func (p *program) findPlugin(name string) (string, error) {
	for _, dir := range filepath.SplitList(p.settings.binDir) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", fmt.Errorf("the plugin %s is not in %s: --bin-dir says where it is", name, p.settings.binDir)
}

// args are CNI_ARGS.
func (w *connection) args(c *container) string {
	how := cni.Connected
	if c.noWayOut() {
		how = cni.ConnectedRoute
	}
	args := []string{"IgnoreUnknown=1", cni.ArgConnected + "=" + how}
	if c.name != "" && !strings.Contains(c.name, ";") {
		args = append(args, "K8S_POD_NAME="+c.name)
	}
	if len(w.ips) > 0 {
		args = append(args, "IP="+list(w.ips))
	}
	if w.mac != "" {
		args = append(args, "MAC="+w.mac)
	}
	return strings.Join(args, ";")
}

// configure is what a plugin of the chain reads. What is wanted of the network goes to
// the plugin that makes the interface, whether or not it declares the capability to
// runtimes.
func (w *connection) configure(f *conflist.File, i int, prev json.RawMessage) ([]byte, error) {
	var conf map[string]any
	if err := json.Unmarshal(f.Plugins[i].Raw, &conf); err != nil {
		return nil, err
	}
	conf["name"] = f.Name
	if v := f.Version(cni.Versions); v != "" {
		conf["cniVersion"] = v
	}
	if i == 0 {
		conf["runtimeConfig"] = w.capabilities()
	}
	if prev != nil {
		conf["prevResult"] = prev
	}
	return json.Marshal(conf)
}

func (w *connection) capabilities() map[string]any {
	all := map[string]any{}
	if len(w.aliases) > 0 {
		all["aliases"] = w.aliases
	}
	if len(w.ports) > 0 {
		all["portMappings"] = w.ports // which has the keys of the convention
	}
	return all
}

// publish reads [ADDRESS:]PORT:PORT[/PROTOCOL], a port of the host and one of the
// container, or as many of both: 8000-8002:80-82.
func publish(to *[]attach.Port) pflag.Value {
	return &value{kind: "host:container/protocol", get: func() string { return "" }, set: func(s string) error {
		ports, err := parsePublish(s)
		if err != nil {
			return fmt.Errorf("%w: want [ADDRESS:]PORT:PORT[/tcp|udp|sctp], such as 8080:80, 127.0.0.1:5353:53/udp, [fd00::1]:8000-8002:80-82", err)
		}
		*to = append(*to, ports...)
		return nil
	}}
}

func parsePublish(s string) ([]attach.Port, error) {
	text, protocol, given := strings.Cut(s, "/")
	if !given {
		protocol = "tcp"
	}
	if protocol != "tcp" && protocol != "udp" && protocol != "sctp" {
		return nil, fmt.Errorf("%q is no protocol", protocol)
	}
	rest, container, ok := cutLast(text)
	if !ok {
		return nil, errors.New("a port of the host and one of the container")
	}
	address, host, ok := cutLast(rest)
	if !ok {
		address, host = "", rest
	}
	var ip netip.Addr
	if ok {
		var err error
		if ip, err = netip.ParseAddr(strings.Trim(address, "[]")); err != nil {
			return nil, fmt.Errorf("%q is no address", address)
		}
	}
	from, err := portRange(host)
	if err != nil {
		return nil, err
	}
	to, err := portRange(container)
	if err != nil {
		return nil, err
	}
	if len(from) != len(to) {
		return nil, fmt.Errorf("%d ports of the host and %d of the container", len(from), len(to))
	}
	var all []attach.Port
	for i := range from {
		all = append(all, attach.Port{HostIP: ip.Unmap(), HostPort: from[i], ContainerPort: to[i], Protocol: protocol})
	}
	return all, nil
}

// cutLast cuts at the last colon.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

func portRange(s string) ([]uint16, error) {
	low, high, two := strings.Cut(s, "-")
	if !two {
		high = low
	}
	from, err := strconv.Atoi(low)
	to, err2 := strconv.Atoi(high)
	if err := errors.Join(err, err2); err != nil || from < 1 || to > math.MaxUint16 || from > to {
		return nil, fmt.Errorf("%q is no port", s)
	}
	var all []uint16
	for port := from; port <= to; port++ {
		all = append(all, uint16(port))
	}
	return all, nil
}
