package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/berth-cni/berth/integration/floor"
	"github.com/berth-cni/berth/integration/sandbox"
)

// contestant is one way of attaching containers.
type contestant struct {
	result
	conflist string   // empty: the kernel's floor, in this process
	dirs     []string // CNI_PATH
	plugins  []string // binaries of one ADD, for start-up time
	setUp    string   // commands for a new host, one a line
	maxrss   string   // path of that program
	slow     bool
}

// result is what was measured of one contestant.
type result struct {
	Name      string           `json:"name"`
	Ports     bool             `json:"ports"`               // publishes one port
	Samples   map[int]*sampled `json:"samples"`             // by attached containers
	PerSecond times            `json:"perSecond"`           // of each burst
	Start     float64          `json:"startMs,omitempty"`   // VERSION of all plugins of one ADD
	MaxRSS    int              `json:"maxRSSKiB,omitempty"` // largest process of one ADD
	Size      int64            `json:"sizeBytes,omitempty"` // of the plugin binaries of one ADD
	Failures  int              `json:"failures,omitempty"`  // ADDs of a burst that had to be tried again
	Stopped   int              `json:"stoppedAt,omitempty"` // attached, when the time to fill was over
}

const (
	berthName  = "Berth"
	besideName = "another build of Berth"
	floorName  = "kernel floor"
	pluginName = "process + transaction + floor"
	noopName   = "plugin that does nothing"
	nftName    = "reference, nftables"
	iptName    = "reference, iptables"
)

const ipamOf = `"ipam": {%s"ranges": [[{"subnet": "10.240.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}`

func conflist(plugins string) string {
	return `{"cniVersion": "1.0.0", "name": "bench", "plugins": [` + plugins + `]}`
}

// berth is the suite of a folder.
func berth(name, bin string) *contestant {
	return &contestant{
		result: result{Name: name, Ports: true}, dirs: []string{bin}, plugins: []string{filepath.Join(bin, "bridge")},
		conflist: conflist(`{"type": "bridge", "bridge": "berth0", "isGateway": true, "ipMasq": true,
			"capabilities": {"portMappings": true}, ` + fmt.Sprintf(ipamOf, "") + `}`),
	}
}

// lineUp builds the contestants. With another build beside there are no others than
// that, and the kernel's floor.
func lineUp(bin, beside, out string) ([]*contestant, error) {
	own, err := buildOwn(out)
	if err != nil {
		return nil, err
	}
	ref, err := sandbox.References()
	if err != nil {
		return nil, err
	}
	reference := func(name, masq, rest string, plugins ...string) *contestant {
		c := &contestant{dirs: []string{ref}, slow: true, conflist: conflist(
			`{"type": "bridge", "bridge": "ref0", "isGateway": true, "ipMasq": true, "ipMasqBackend": "` + masq + `", ` +
				fmt.Sprintf(ipamOf, `"type": "host-local", `) + `},` + rest)}
		c.Name, c.Ports = name, true
		for _, p := range plugins {
			c.plugins = append(c.plugins, filepath.Join(ref, p))
		}
		return c
	}
	all := []*contestant{
		{result: result{Name: floorName}, setUp: floorSetUp},
		{result: result{Name: noopName}, conflist: conflist(`{"type": "noop"}`), dirs: []string{own},
			plugins: []string{filepath.Join(own, "noop")}},
		{result: result{Name: pluginName}, conflist: conflist(`{"type": "floorplugin"}`), dirs: []string{own},
			plugins: []string{filepath.Join(own, "floorplugin")}, setUp: floorSetUp},
	}
	if bin != "none" {
		if bin, err = berthBinaries(bin); err != nil {
			return nil, err
		}
		all = append(all, berth(berthName, bin))
	}
	if beside != "" {
		if beside, err = filepath.Abs(beside); err != nil {
			return nil, err
		}
		all = append(all[:1:1], berth(besideName, beside), all[len(all)-1])
	} else {
		all = append(all,
			reference(nftName, "nftables", `{"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}}`,
				"bridge", "host-local", "portmap"),
			reference(iptName, "iptables", `{"type": "portmap", "backend": "iptables", "capabilities": {"portMappings": true}},
			{"type": "firewall"}`, "bridge", "host-local", "portmap", "firewall"))
	}
	for _, c := range all {
		c.Samples, c.maxrss = map[int]*sampled{}, filepath.Join(own, "maxrss")
		for _, p := range c.plugins {
			st, err := os.Stat(p)
			if err != nil {
				return nil, err
			}
			c.Size += st.Size()
		}
	}
	return all, nil
}

const floorSetUp = `
	ip link add floor0 address 02:42:0a:f0:00:01 type bridge
	ip addr add ` + floor.Gateway + ` dev floor0
	ip link set floor0 up`

// buildOwn builds the plugins of the benchmark's own.
func buildOwn(out string) (string, error) {
	dir, err := filepath.Abs(filepath.Join(out, "bin"))
	if err != nil {
		return "", err
	}
	const base = "github.com/berth-cni/berth/integration/bench/"
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir+"/", base+"noop", base+"floorplugin", base+"maxrss")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the benchmark's own plugins: %w\n%s", err, text)
	}
	return dir, nil
}

// verb does one thing to a container, on the calling thread.
type verb func(n int, c *sandbox.Container) error

// arena is one host of one contestant.
type arena struct {
	host            *sandbox.Host
	add, check, del verb
	attached        int
	forgiving       bool
	failures        atomic.Int32
}

// arena makes a new host.
func (c *contestant) arena() (*arena, error) {
	h, err := sandbox.New()
	if err != nil {
		return nil, err
	}
	a := &arena{host: h, forgiving: c.slow}
	if _, err := h.Outside(); err != nil {
		return nil, err
	}
	if err := h.Script("sysctl -qw net.ipv4.ip_forward=1\n" + c.setUp); err != nil {
		return nil, err
	}
	if c.conflist == "" {
		return a, a.useFloor()
	}
	n, err := h.Network(c.conflist, c.dirs...)
	if err != nil {
		return nil, err
	}
	net := n.Here()
	port := func(n int) sandbox.Option {
		return sandbox.Cap("portMappings", []map[string]any{{"hostPort": 10000 + n, "containerPort": 80, "protocol": "tcp"}})
	}
	a.add = func(n int, c *sandbox.Container) error { _, err := net.Add(c, port(n)); return err }
	a.check = func(n int, c *sandbox.Container) error { return net.Check(c, port(n)) }
	a.del = func(n int, c *sandbox.Container) error { return net.Del(c, port(n)) }
	return a, nil
}

func (a *arena) useFloor() error {
	var bridge int
	err := a.host.Do(func() (err error) {
		bridge, err = floor.Index(floor.Bridge)
		return err
	})
	a.add = func(n int, c *sandbox.Container) error {
		l := floor.Numbered(n, c.Netns)
		l.Bridge = bridge
		return floor.Add(l)
	}
	a.del = func(n int, c *sandbox.Container) error { return floor.Del(floor.Numbered(n, c.Netns).Name) }
	return err
}

// container makes the container with a number: "c17".
func (a *arena) container(n int) (*sandbox.Container, error) {
	return a.host.Container(fmt.Sprintf("c%d", n))
}

// timed runs a verb on the arena's host and takes its time.
func (a *arena) timed(v verb, n int, c *sandbox.Container) (took time.Duration, err error) {
	err = a.host.Do(func() error {
		start := time.Now()
		err := v(n, c)
		took = time.Since(start)
		return err
	})
	return took, err
}
