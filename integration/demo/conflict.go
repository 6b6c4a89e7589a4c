package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/berth-cni/berth/integration/sandbox"
	"github.com/berth-cni/berth/integration/screen"
	"github.com/containernetworking/cni/pkg/types"
)

// hostPort is where a process of the host listens: this program.
const hostPort = 9090

// showConflict: step 8.
func (l *lab) showConflict() error {
	late, err := l.container("web3")
	if err != nil {
		return err
	}
	late.port = &mapping{l.web2.port.HostPort, 80, "tcp"}
	if err := l.refused(late, "another container has it", l.web2.ID); err != nil {
		return err
	}
	l.Space()
	stop, err := l.host.serve(hostPort)
	if err != nil {
		return err
	}
	defer stop()
	late.port = &mapping{hostPort, 80, "tcp"}
	if err := l.refused(late, "a process of the host listens on it: this demo", "pid "+strconv.Itoa(os.Getpid())); err != nil {
		return err
	}
	l.Space()
	l.get(l.host, fmt.Sprintf("http://127.0.0.1:%d/", hostPort), l.host.name, "127.0.0.1")
	l.get(l.outside, url(fmt.Sprintf("%s:%d", sandbox.HostAddr4, l.web2.port.HostPort)), l.web2.ID, sandbox.OutsideAddr4)
	late.stop()
	return late.Remove()
}

// refused claims that ADD fails, names who holds the port, and changes nothing.
func (l *lab) refused(c *container, why, holder string) error {
	before, err := l.box.Look(made...)
	if err != nil {
		return err
	}
	l.Quote(fmt.Sprintf("ADD %s eth0 %s   hostPort %d: %s", c.ID, c.Netns, c.port.HostPort, why))
	_, err = l.net.Add(c.Container, c.options()...)
	var e *types.Error
	if !errors.As(err, &e) {
		l.Claim(false, "ADD is refused; it ended with: %v", err)
		return nil
	}
	// The reply as the plugin wrote it, but for the version.
	reply, err := json.Marshal(struct {
		Code uint   `json:"code"`
		Msg  string `json:"msg"`
	}{e.Code, e.Msg})
	if err != nil {
		return err
	}
	for _, part := range screen.Wrap(string(reply), screen.Width-4) {
		l.Line("    " + part)
	}
	l.Claim(strings.Contains(e.Msg, holder) && strings.Contains(e.Msg, strconv.Itoa(c.port.HostPort)),
		"refused, with the port and its holder: %s", holder)
	after, err := l.box.Look(made...)
	if err != nil {
		return err
	}
	l.unchanged(before, after, "interfaces, addresses, routes, settings, firewall and records are as before")
	return nil
}
