package main

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/berth-cni/berth/integration/sandbox"
	"github.com/berth-cni/berth/integration/screen"
)

// The network of the demo.
const (
	network  = "demo"
	bridge   = "berth0"
	gateway4 = "10.88.0.1"
	gateway6 = "fd00:88::1"
	conflist = `{
  "cniVersion": "1.1.0",
  "name": "` + network + `",
  "plugins": [{
    "type": "bridge",
    "bridge": "` + bridge + `",
    "isGateway": true,
    "isDefaultGateway": true,
    "ipMasq": true,
    "names": true,
    "ipam": { "ranges": [ [{"subnet": "10.88.0.0/16"}], [{"subnet": "fd00:88::/64"}] ] },
    "capabilities": { "portMappings": true }
  }]
}`
)

// machine is where a program can be run: the host, the outside, a container.
type machine struct {
	name   string
	output func(name string, args ...string) (string, error)
	do     func(func() error) error
}

// container is one that a runtime made, and what ADD gave it.
type container struct {
	*sandbox.Container
	machine
	port *mapping // to publish, or nil
	got  attachment
	stop func() // ends the web server
}

// mapping is an entry of the capability portMappings (CNI's CONVENTIONS.md).
type mapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
}

func (c *container) options() []sandbox.Option {
	opts := []sandbox.Option{sandbox.Arg("IgnoreUnknown", "1"), sandbox.Arg("K8S_POD_NAME", c.ID)}
	if c.port != nil {
		opts = append(opts, sandbox.Cap("portMappings", []mapping{*c.port}))
	}
	return opts
}

// lab is the sandbox: the host, the machine outside, and the containers.
type lab struct {
	*screen.Screen
	bin               string
	box               *sandbox.Host
	net               *sandbox.Network
	host, outside     machine
	web1, web2, query *container // query is called client
	rulesWithOne      int        // nftables rules when one container was attached
}

func newLab(s *screen.Screen, bin string) (*lab, error) {
	box, err := sandbox.New()
	if err != nil {
		return nil, err
	}
	l := &lab{Screen: s, bin: bin, box: box, host: machine{"host", box.Output, box.Do}}
	if err := l.furnish(); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *lab) furnish() error {
	outside, err := l.box.Outside()
	if err != nil {
		return err
	}
	l.outside = machine{"outside", outside.Output, outside.Do}
	// Neighbour discovery for what is forwarded needs a link-local address; the
	// kernel's own is tentative for a second or two (RFC 4862, section 5.4).
	if err := l.box.Script(`
		ip addr add fe80::1/64 dev ` + sandbox.Uplink + ` nodad
		ip -n outside addr add fe80::2/64 dev eth0 nodad`); err != nil {
		return err
	}
	if _, err := l.outside.serve(80); err != nil {
		return err
	}
	if l.net, err = l.box.Network(conflist, l.bin); err != nil {
		return fmt.Errorf("read the conflist: %w", err)
	}
	for name, c := range map[string]**container{"web1": &l.web1, "web2": &l.web2, "client": &l.query} {
		if *c, err = l.container(name); err != nil {
			return err
		}
	}
	l.web2.port = &mapping{8080, 80, "tcp"}
	return nil
}

// close ends the agent, which would end by itself a little later, and lets go of the
// namespaces; the kernel removes what is in them.
func (l *lab) close() {
	_ = l.host.do(func() error {
		pid, err := agentPID()
		if err == nil {
			err = syscall.Kill(pid, syscall.SIGTERM)
		}
		return err
	})
	l.box.Close()
}

func (l *lab) containers() []*container { return []*container{l.web1, l.web2, l.query} }

// container makes a container with a web server, before any network is there.
func (l *lab) container(name string) (*container, error) {
	made, err := l.box.Container(name)
	if err != nil {
		return nil, err
	}
	c := &container{Container: made, machine: machine{name, made.Output, made.Do}}
	c.stop, err = c.serve(80)
	return c, err
}

// serve answers HTTP requests with the machine's name and the client's address,
// until stop is called.
func (m machine) serve(port int) (stop func(), err error) {
	var listener net.Listener
	err = m.do(func() (err error) {
		listener, err = net.Listen("tcp", fmt.Sprintf(":%d", port))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("serve on %s: %w", m.name, err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, _, _ := net.SplitHostPort(r.RemoteAddr)
		_, _ = fmt.Fprint(w, hello(m.name, client))
	})}
	go func() { _ = server.Serve(listener) }() // ends with the listener
	return func() { _ = server.Close() }, nil
}

func hello(server, client string) string {
	return fmt.Sprintf("hello from %s, you are %s", server, client)
}

// get claims that a server answers a machine's request, and at which address it
// sees the client.
func (l *lab) get(from machine, url, server, client string) {
	got, err := from.curl(url)
	if err != nil {
		got = screen.LastLine(got)
	}
	want := hello(server, client)
	l.Command(got == want, from.name, "curl "+url, got, want)
}

// curl returns a page, without the ways to configure curl that a person may have.
func (m machine) curl(url string) (string, error) {
	return m.output("curl", "-q", "-sS", "--noproxy", "*", "--max-time", "5", url)
}

// ping claims that an address answers.
func (l *lab) ping(from machine, addr string) {
	got, err := from.output("ping", "-n", "-c1", "-w5", addr)
	_, after, found := strings.Cut(got, "time=")
	shown := "answered in " + screen.FirstLine(after)
	if err != nil || !found {
		shown = screen.LastLine(got)
	}
	l.Command(err == nil && found, from.name, "ping -c1 -w5 "+addr, shown, "an answer")
}

// opening says what all this runs on.
func (l *lab) opening() {
	l.Line("")
	l.Line(l.Paint(screen.Bold, " Berth, the bridge mode"))
	l.Line("")
	l.Line("    A host and a machine outside, made of namespaces: this machine is not touched.")
	l.Line("")
	l.Line("    " + l.Paint(screen.Bold, "host") + "  " + sandbox.HostAddr4 + "  " + sandbox.HostAddr6 + "  ───────  " +
		l.Paint(screen.Bold, "outside") + "  " + sandbox.OutsideAddr4 + "  " + sandbox.OutsideAddr6)
	l.Line("")
	l.Line("    " + l.Paint(screen.Dim, "Behind “$” is what you would type on that machine. ✓ was checked, ✗ is not as it should be."))
}
