package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/agent"
)

// facts are what the checks look at: gathered once, so that a check is a function of
// them.
type facts struct {
	Now time.Time

	Listen    string
	AgentRuns bool // by its lock
	AgentErr  error
	Status    *agent.Status // nil when it does not answer
	StatusErr error

	Store    string         // what the store is
	State    *overlay.State // nil when the store does not answer
	StoreErr error

	DataDir  string
	Identity *overlay.Identity // nil: this host is no node yet
	Locals   []*overlay.Local
	LocalErr error // what of it could not be read

	Devices   host.Links // by name; absent: there is none
	Routes    []link.HostRoute
	RoutesErr error
	Forwards  map[bool]string // of IPv4 (true) and IPv6: what the kernel's file says

	Host hostFacts
}

// gather looks at everything once.
func (p *program) gather(ctx context.Context) *facts {
	s := &p.settings
	f := &facts{Now: p.now(), Listen: s.listen, DataDir: s.dataDir, Store: s.storeName()}
	f.AgentRuns, f.AgentErr = overlay.AgentRuns(s.stateDir)
	f.Status, f.StatusErr = askAgent(ctx, s.listen)
	f.Locals, f.LocalErr = overlay.ListLocal(s.dataDir)
	if id, err := overlay.ReadIdentity(s.dataDir); err == nil {
		if s.store == storeStatic {
			id.Token = "" // a file does not know those of hosts
		}
		f.Identity = &id
	} else if !errors.Is(err, fs.ErrNotExist) {
		f.LocalErr = errors.Join(f.LocalErr, err)
	}
	if s.named || !f.unused() { // else nobody has said that there is one
		f.StoreErr = p.withState(ctx, func(state *overlay.State) error {
			f.State = state
			return nil
		})
	}
	f.Host = *p.gatherHost(ctx)
	f.Devices = f.Host.Links
	own := f.Host.ownDevices()
	for _, l := range f.Locals {
		own = append(own, l.Network.Device(), l.Network.Bridge())
	}
	f.Routes, f.RoutesErr = link.HostRoutes(own...)
	f.Forwards = map[bool]string{true: setting("ipv4/ip_forward"), false: setting("ipv6/conf/all/forwarding")}
	return f
}

// askAgent asks the agent for its status. It waits for 6 s at most: the agent
// itself gives up after 5.
func askAgent(ctx context.Context, listen string) (*agent.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 6*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+reachable(listen)+"/status", nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // and no proxy
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s: is it another program?", listen, resp.Status)
	}
	var s agent.Status
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		return nil, fmt.Errorf("decode the answer of %s: %w", listen, err)
	}
	return &s, nil
}

// reachable is where a listener answers on its own host: one that listens on every
// address does on loopback.
func reachable(listen string) string {
	a, err := netip.ParseAddrPort(listen)
	if err != nil || !a.Addr().IsUnspecified() {
		return listen
	}
	loopback := netip.MustParseAddr("127.0.0.1")
	if a.Addr().Is6() {
		loopback = netip.IPv6Loopback()
	}
	return netip.AddrPortFrom(loopback, a.Port()).String()
}

// setting reads a file of /proc/sys/net; empty when it cannot be read.
func setting(name string) string {
	data, err := os.ReadFile("/proc/sys/net/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
