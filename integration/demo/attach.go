package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
	"github.com/berth-cni/berth/integration/screen"
	current "github.com/containernetworking/cni/pkg/types/100"
)

// attachment is the result of ADD.
type attachment struct {
	hostIf, mac string
	v4, v6      string // without the length
	resolv      string // what a runtime would write into resolv.conf
	addresses   []string
	gateways    []string
}

// showNetwork: step 1.
func (l *lab) showNetwork() error {
	l.Quote("/etc/cni/net.d/10-demo.conflist")
	l.Quote(strings.Split(conflist, "\n")...)
	l.Space()
	before, err := l.box.Look(made...)
	if err != nil {
		return err
	}
	reply, err := l.box.Call(sandbox.Call{Plugin: filepath.Join(l.bin, "bridge"), Verb: "VERSION",
		Path: l.bin, Config: `{"cniVersion": "1.1.0"}`})
	if err != nil {
		return err
	}
	var speaks struct{ SupportedVersions []string }
	if err := json.Unmarshal([]byte(reply.Stdout), &speaks); err != nil {
		return fmt.Errorf("read the reply to VERSION: %w", err)
	}
	all := speaks.SupportedVersions
	l.Claim(slices.Contains(all, "0.1.0") && slices.Contains(all, "1.1.0"), "VERSION  the plugin speaks CNI %s", strings.Join(all, " "))
	if err := l.net.Status(); err != nil {
		return fmt.Errorf("STATUS: %w", err)
	}
	after, err := l.box.Look(made...)
	if err != nil {
		return err
	}
	l.unchanged(before, after, "STATUS   an ADD could work now; nothing is made yet, not even the bridge")
	return nil
}

// made are the sections of a snapshot in which Berth makes things.
var made = []string{"link", "address", "route", "route6", "rule", "sysctl", "nft", "iptables", "ip6tables", "state"}

// unchanged claims that two looks at the host saw the same.
func (l *lab) unchanged(before, after sandbox.Snapshot, what string) {
	diff := before.Diff(after)
	l.Claim(len(diff) == 0, "%s", strings.Join(append([]string{what}, diff...), "\n  "))
}

// showAdd: step 2.
func (l *lab) showAdd() error {
	for i, c := range l.containers() {
		if i > 0 {
			l.Space()
		}
		took, err := l.add(c)
		if err != nil {
			return err
		}
		if err := l.showAttached(c, took); err != nil {
			return err
		}
		if i == 0 {
			t, err := l.host.table()
			if err != nil {
				return err
			}
			l.rulesWithOne = t.rules
		}
	}
	return nil
}

// add attaches the container and says how long the runtime waited.
func (l *lab) add(c *container) (time.Duration, error) {
	start := time.Now()
	res, err := l.net.Add(c.Container, c.options()...)
	took := time.Since(start)
	if err != nil {
		return took, fmt.Errorf("ADD of %s: %w", c.ID, err)
	}
	r, err := current.GetResult(res)
	if err != nil {
		return took, err
	}
	for _, i := range r.Interfaces {
		switch {
		case i.Sandbox != "":
			c.got.mac = i.Mac
		case i.Name != bridge:
			c.got.hostIf = i.Name
		}
	}
	for _, s := range r.DNS.Nameservers {
		c.got.resolv += "nameserver " + s + "\n"
	}
	if len(r.DNS.Search) > 0 {
		c.got.resolv += "search " + strings.Join(r.DNS.Search, " ") + "\n"
	}
	for _, ip := range r.IPs {
		c.got.addresses = append(c.got.addresses, ip.Address.String())
		c.got.gateways = append(c.got.gateways, ip.Gateway.String())
		if ip.Address.IP.To4() != nil {
			c.got.v4 = ip.Address.IP.String()
		} else {
			c.got.v6 = ip.Address.IP.String()
		}
	}
	if c.got.v4 == "" || c.got.v6 == "" || c.got.hostIf == "" {
		return took, errors.New("the result of ADD lacks an address of either family, or the host's interface")
	}
	return took, nil
}

// showAttached compares what ADD returned with what the kernel has.
func (l *lab) showAttached(c *container, took time.Duration) error {
	l.Quote(fmt.Sprintf("ADD %s eth0 %s", c.ID, c.Netns))
	if c.port != nil {
		data, err := json.Marshal(map[string]any{"portMappings": []mapping{*c.port}})
		if err != nil {
			return err
		}
		l.Quote(`    "runtimeConfig": ` + string(data))
	}
	inside, err := c.interfaces()
	if err != nil {
		return err
	}
	eth0 := inside["eth0"]
	l.Claim(slices.Equal(sorted(eth0.addresses()...), sorted(c.got.addresses...)) && eth0.MAC == c.got.mac,
		"%s  eth0  %s  %s  %s", l.Paint(screen.Bold, screen.Pad(c.ID, 6)), screen.Pad(strings.Join(eth0.addresses(), "  "), 28), eth0.MAC,
		l.Paint(screen.Dim, fmt.Sprintf("%6.1f ms", took.Seconds()*1000)))
	links, err := l.host.interfaces()
	if err != nil {
		return err
	}
	port := links[c.got.hostIf]
	l.Claim(port.Master == bridge && port.Peer == eth0.Index && eth0.Peer == port.Index,
		"        the other end of eth0 is the host's %s, a port of %s", c.got.hostIf, bridge)
	gateways, err := c.gateways()
	if err != nil {
		return err
	}
	owner := strings.Join(links[bridge].addresses(), " ")
	l.Claim(slices.Equal(gateways, []string{gateway4, gateway6}) && owner == gateway4+"/16 "+gateway6+"/64",
		"        default routes by %s: the bridge", strings.Join(gateways, " and "))
	return nil
}
