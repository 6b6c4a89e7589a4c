package main

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/names/server"
)

// TestResolve: the host looks a container up by its name.
func TestResolve(t *testing.T) {
	dir := t.TempDir()
	if code, _, errs := berth(t, nil, "resolve", "web", "--state-dir", dir); code != exitFailed || !strings.Contains(errs, "no berth agent runs") {
		t.Errorf("without an agent: %d, %q", code, errs)
	}
	if code, _, errs := berth(t, nil, "host-names", "on", "--state-dir", dir); code != exitFailed || !strings.Contains(errs, "no berth agent runs") {
		t.Errorf("host-names without an agent: %d, %q", code, errs)
	}
	for _, bad := range []string{"192.0.2.1", "127.0.0.55:0", "localhost", "0.0.0.0:53"} {
		if code, _, errs := berth(t, nil, "agent", "--host-names", bad); code != exitUsage || !strings.Contains(errs, "want an address of loopback") {
			t.Errorf("%s: %d, %q", bad, code, errs)
		}
	}
	s := server.New(server.Config{StateDir: dir})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	<-s.Ready()
	if code, _, errs := berth(t, nil, "host-names", "on", "--state-dir", dir); code != exitFailed || !strings.Contains(errs, "the agent does not answer this host: start it with --host-names 127.0.0.55") {
		t.Errorf("host-names: %d, %q", code, errs)
	}
	for i, network := range []string{"blue", "red"} {
		s.Directory().PutRemote("host2", names.Entry{Key: attach.Key{Network: network, Container: "c1", IfName: "eth0"}, Names: []string{"web", "www.shop.example"},
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i), 2}), netip.MustParseAddr("fd00::2")}})
	}
	for args, want := range map[string]string{
		"resolve -q web":                "10.0.0.2\nfd00::2\n10.0.1.2\nfd00::2\n",
		"resolve -q web.red":            "10.0.1.2\nfd00::2\n",
		"resolve -q WEB.red.berth":      "10.0.1.2\nfd00::2\n",
		"resolve --quiet 10.0.0.2":      "10.0.0.2\nfd00::2\n",
		"resolve www.shop.example.blue": "NETWORK   ADDRESSES           NAMES\nblue      10.0.0.2, fd00::2   web, www.shop.example\n",
	} {
		if code, out, errs := berth(t, nil, append(strings.Fields(args), "--state-dir", dir)...); code != exitDone || out != want || errs != "" {
			t.Errorf("%s: %d\n%s%s, want\n%s", args, code, out, errs, want)
		}
	}
	var one resolved
	if _, out, _ := berth(t, nil, "resolve", "web.red", "--format", "json", "--state-dir", dir); json.Unmarshal([]byte(out), &one) != nil || one.Network != "red" {
		t.Errorf("json: %s", out)
	}
	if code, _, errs := berth(t, nil, "resolve", "nobody", "--state-dir", dir); code != exitFailed || !strings.Contains(errs, "no container is called nobody") {
		t.Errorf("nobody: %d, %q", code, errs)
	}
}
