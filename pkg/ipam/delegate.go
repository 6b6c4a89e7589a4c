package ipam

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/berth-cni/berth/pkg/attach"
)

// undoTime bounds the DEL that follows a failed ADD.
const undoTime = 30 * time.Second

// Delegate is the step that has another IPAM plugin give the addresses (CNI SPEC
// 1.1.0, section 4). It goes behind the step that makes the container's interface: such
// a plugin may work through it, as dhcp does, which also gives its lease back through it.
// All that its DEL needs is in the record.
type Delegate struct {
	Type string          `json:"type"` // the binary's name
	Conf json.RawMessage `json:"conf"` // the whole configuration, as it came on stdin
	Path string          `json:"path"` // CNI_PATH at ADD; empty: nobody knows it any more
	Args string          `json:"args,omitempty"`

	// DNS is what the plugin returned at Add, for the result.
	DNS types.DNS `json:"-"`
}

// DelegateKind is the step's kind in the record.
const DelegateKind = "ipam"

// usualPath is where plugins are when nobody says where.
const usualPath = "/opt/cni/bin:/usr/lib/cni:/usr/libexec/cni"

// Kind is [DelegateKind].
func (d *Delegate) Kind() string { return DelegateKind }

// Claim implements [attach.Claimer]: it says that the addresses come later.
func (d *Delegate) Claim(_ *attach.Tx, a *attach.Adding) error {
	a.Delegated = true
	a.Addresses, a.Routes = nil, nil
	return nil
}

// Add runs the plugin's ADD, sets the attachment's addresses and appends to its
// routes. What a failed ADD may have left is removed with a DEL. The plugin's own
// error is in the chain as a [*types.Error], with its code.
func (d *Delegate) Add(ctx context.Context, a *attach.Adding) error {
	p, err := findPlugin(d.Type, d.Path)
	if err != nil {
		return err
	}
	out, err := p.run(ctx, "ADD", d.Conf, d.env(a.Attachment))
	if err == nil {
		err = d.take(a, out)
	}
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if _, undo := p.run(ctx, "DEL", d.Conf, d.env(a.Attachment)); undo != nil {
		return errors.Join(err, undo, attach.ErrLeft)
	}
	return err
}

// take puts the plugin's result into the attachment.
func (d *Delegate) take(a *attach.Adding, out []byte) error {
	result, err := decodeResult(out, d.Conf)
	if err != nil {
		return fmt.Errorf("result of ipam plugin %s: %w", d.Type, err)
	}
	if len(result.IPs) == 0 {
		return fmt.Errorf("result of ipam plugin %s: has no address", d.Type)
	}
	var addresses []attach.Address
	for _, ip := range result.IPs {
		prefix, ok := prefixOf(ip.Address)
		if !ok {
			return fmt.Errorf("result of ipam plugin %s: address %v: want an address and the length of its subnet", d.Type, &ip.Address)
		}
		gw, _ := netip.AddrFromSlice(ip.Gateway)
		addresses = append(addresses, attach.Address{Prefix: prefix, Gateway: gw.Unmap()})
	}
	routes, err := routesOf(result.Routes)
	if err != nil {
		return fmt.Errorf("result of ipam plugin %s: %w", d.Type, err)
	}
	a.Addresses = addresses
	a.Routes = append(a.Routes, routes...)
	d.DNS = result.DNS
	a.Changed()
	return nil
}

// Del runs the plugin's DEL.
func (d *Delegate) Del(ctx context.Context, a *attach.Attachment) error {
	return d.run(ctx, a, "DEL")
}

// Check runs the plugin's CHECK, which exists from cniVersion 0.4.0 on. A caller
// that was given a newer configuration, with a prevResult, sets Conf to it first.
func (d *Delegate) Check(ctx context.Context, a *attach.Attachment) error {
	if !since(d.Conf, "0.4.0") {
		return nil
	}
	return d.run(ctx, a, "CHECK")
}

// Status implements [attach.Statuser] by the plugin's STATUS, which exists from
// cniVersion 1.1.0 on.
func (d *Delegate) Status(ctx context.Context, _ *attach.Store, _ string) error {
	return ExecStatus(ctx, d.Type, d.Conf, d.Path)
}

func (d *Delegate) run(ctx context.Context, a *attach.Attachment, command string) error {
	// The plugins may have moved since ADD: today's folders count, too.
	path := d.Path + string(filepath.ListSeparator) + os.Getenv("CNI_PATH")
	if d.Path == "" {
		path += string(filepath.ListSeparator) + usualPath
	}
	p, err := findPlugin(d.Type, path)
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	_, err = p.run(ctx, command, d.Conf, d.env(a))
	return err
}

// env is what the plugin's environment says about the attachment (CNI SPEC,
// section 2).
func (d *Delegate) env(a *attach.Attachment) []string {
	return []string{
		"CNI_CONTAINERID=" + a.Container,
		"CNI_NETNS=" + a.Netns,
		"CNI_IFNAME=" + a.IfName,
		"CNI_ARGS=" + d.Args,
		"CNI_PATH=" + cmp.Or(d.Path, os.Getenv("CNI_PATH"), usualPath),
	}
}

// ExecStatus asks an IPAM plugin whether ADD would work now. Below cniVersion
// 1.1.0 there is no STATUS: nil. conf and path are those of our own call.
func ExecStatus(ctx context.Context, ipamType string, conf json.RawMessage, path string) error {
	return exec11(ctx, "STATUS", ipamType, conf, path)
}

// ExecGC hands a GC on to an IPAM plugin; conf has the list of valid attachments.
// Below cniVersion 1.1.0 there is no GC: nil.
func ExecGC(ctx context.Context, ipamType string, conf json.RawMessage, path string) error {
	return exec11(ctx, "GC", ipamType, conf, path)
}

func exec11(ctx context.Context, command, ipamType string, conf json.RawMessage, path string) error {
	if !since(conf, "1.1.0") {
		return nil
	}
	p, err := findPlugin(ipamType, path)
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	_, err = p.run(ctx, command, conf, []string{"CNI_PATH=" + path})
	return err
}

// since tells that the configuration's cniVersion is at least the given one.
func since(conf json.RawMessage, least string) bool {
	v, err := create.DecodeVersion(conf)
	if err != nil {
		return false
	}
	ok, err := version.GreaterThanOrEqualTo(v, least)
	return err == nil && ok
}

// decodeResult reads a result of any version of the spec. One that does not say
// its version has that of the configuration.
func decodeResult(out []byte, conf json.RawMessage) (result *current.Result, err error) {
	defer func() {
		// cni's conversion between versions (v1.3.1) does not expect a null in a list.
		if p := recover(); p != nil {
			err = fmt.Errorf("convert: %v", p)
		}
	}()
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(out, &fields); err != nil {
		return nil, err
	}
	if fields == nil {
		return nil, errors.New("want an object, not null")
	}
	if v := string(fields["cniVersion"]); v == "" || v == `""` {
		v, err := create.DecodeVersion(conf)
		if err != nil {
			return nil, err
		}
		if fields["cniVersion"], err = json.Marshal(v); err != nil {
			return nil, err
		}
		if out, err = json.Marshal(fields); err != nil {
			return nil, err
		}
	}
	versioned, err := create.CreateFromBytes(out)
	if err != nil {
		return nil, err
	}
	result, err = current.GetResult(versioned)
	if err == nil && (slices.Contains(result.IPs, nil) || slices.Contains(result.Routes, nil)) {
		return nil, errors.New("has null in a list")
	}
	return result, err
}

func routesOf(from []*types.Route) ([]attach.Route, error) {
	var to []attach.Route
	for _, r := range from {
		dst, ok := prefixOf(r.Dst)
		if !ok {
			return nil, fmt.Errorf("route %v: want a destination such as 0.0.0.0/0", &r.Dst)
		}
		gw, _ := netip.AddrFromSlice(r.GW)
		to = append(to, attach.Route{
			Dst: dst.Masked(), Gateway: gw.Unmap(), MTU: r.MTU, AdvMSS: r.AdvMSS,
			Priority: r.Priority, Table: r.Table, Scope: r.Scope,
		})
	}
	return to, nil
}

func prefixOf(n net.IPNet) (netip.Prefix, bool) {
	addr, ok := netip.AddrFromSlice(n.IP)
	addr = addr.Unmap()
	ones, bits := n.Mask.Size()
	if !ok || bits != addr.BitLen() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr, ones), true
}
