package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
	"github.com/berth-cni/berth/integration/screen"
)

// showDel: step 10.
func (l *lab) showDel() error {
	for _, c := range l.containers() {
		gone := ""
		opts := c.options()
		if c == l.web1 {
			c.stop()
			if err := c.Remove(); err != nil {
				return err
			}
			gone, opts = "  its namespace is gone: CNI_NETNS is empty", append(opts, sandbox.Netns(""))
		}
		l.Quote(fmt.Sprintf("DEL %s eth0%s", c.ID, gone))
		var times []string
		for _, which := range []string{"DEL", "DEL again"} {
			start := time.Now()
			if err := l.net.Del(c.Container, opts...); err != nil {
				return fmt.Errorf("%s of %s: %w", which, c.ID, err)
			}
			times = append(times, fmt.Sprintf("%s %.1f ms", which, time.Since(start).Seconds()*1000))
		}
		host, err := l.host.interfaces()
		if err != nil {
			return err
		}
		_, there := host[c.got.hostIf]
		l.Claim(!there, "%s  %s gone   %s", l.Paint(screen.Bold, screen.Pad(c.ID, 6)), c.got.hostIf, l.Paint(screen.Dim, strings.Join(times, ", ")))
	}
	l.Space()
	if err := l.claimAgentEnds(); err != nil {
		return err
	}
	if err := l.claimNothingLeft(); err != nil {
		return err
	}
	return l.claimShared()
}

// claimNothingLeft looks for whatever an attachment had.
func (l *lab) claimNothingLeft() error {
	host, err := l.host.interfaces()
	if err != nil {
		return err
	}
	l.Equal("ports of "+bridge, fmt.Sprint(len(ports(host))), "0")
	for _, c := range []*container{l.web2, l.query} {
		inside, err := c.interfaces()
		if err != nil {
			return err
		}
		l.Equal("interfaces in "+c.ID, strings.Join(slices.Sorted(maps.Keys(inside)), " "), "lo")
	}
	t, err := l.host.table()
	if err != nil {
		return err
	}
	elements := 0
	for _, set := range containerSets {
		elements += len(t.sets[set])
	}
	l.Equal("elements of containers in the firewall's sets", fmt.Sprint(elements), "0")
	r, err := l.records()
	if err != nil {
		return err
	}
	l.Equal("records, leases, ports in the store", fmt.Sprintf("%d, %d, %d",
		len(r["attachments"]), len(r["leases"])+len(r["used"]), len(r["ports"])), "0, 0, 0")
	results, err := l.cached()
	if err != nil {
		return err
	}
	l.Equal("results that libcni keeps", fmt.Sprint(results), "0")
	at := url(fmt.Sprintf("%s:%d", sandbox.HostAddr4, l.web2.port.HostPort))
	out, err := l.outside.curl(at)
	var exit *exec.ExitError
	const refused = 7 // curl(1): could not connect
	shown := "refused"
	if !errors.As(err, &exit) || exit.ExitCode() != refused {
		shown = screen.LastLine(out)
	}
	l.Command(shown == "refused", l.outside.name, "curl "+at, shown, "refused")
	return nil
}

// claimShared says what stays, by design.
func (l *lab) claimShared() error {
	host, err := l.host.interfaces()
	if err != nil {
		return err
	}
	_, err = l.host.table()
	l.Claim(host[bridge].Name == bridge && err == nil,
		"what containers share stays for the next one: the bridge %s and the table inet berth", bridge)
	return nil
}

// cached counts libcni's results on the host.
func (l *lab) cached() (n int, err error) {
	err = l.host.do(func() error {
		entries, err := os.ReadDir(sandbox.CacheDir + "/results")
		n = len(entries)
		return err
	})
	return n, err
}
