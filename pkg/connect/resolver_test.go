package connect

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestUnnamed: connect says when what the container asks does not know the network's names.
func TestUnnamed(t *testing.T) {
	path := nstest.Namespace(t)
	file := filepath.Join(t.TempDir(), "resolv.conf")
	cmd := exec.Command("ip", "netns", "exec", filepath.Base(path), "unshare", "-m", "sh", "-c", "mount --bind "+file+" /etc/resolv.conf && echo ready && exec sleep 600")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("search x\nnameserver 127.0.0.11\nnameserver 10.0.0.1\n")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	attached := func(network, gateway string, named bool) *attach.Attachment {
		a := &attach.Attachment{Key: attach.Key{Network: network, Container: "c", IfName: "eth1"}, Netns: path, Created: time.Now(),
			Addresses: []attach.Address{{Gateway: netip.MustParseAddr(gateway)}}}
		if named {
			a.Steps = []attach.Step{&names.Register{Bridge: "br0", Names: []string{"web"}}}
		}
		return a
	}
	a, other := attached("blue", "10.0.0.1", true), attached("red", "10.9.0.1", true)
	said := unnamed(a, []*attach.Attachment{a, other})
	if said == nil || !strings.Contains(said.Error(), "web asks 127.0.0.11 for names, which knows none of network blue") || !strings.Contains(said.Error(), "10.0.0.1 is the first") {
		t.Errorf("said: %v", said)
	}
	if err := unnamed(attached("plain", "10.0.0.1", false), nil); err != nil {
		t.Errorf("of a network without names: %v", err)
	}
	for _, text := range []string{"nameserver 10.0.0.1\n", "nameserver 10.9.0.1\n", "# nothing\n"} { // the last one is not known to be wrong
		write(text)
		if err := unnamed(a, []*attach.Attachment{a, other}); err != nil {
			t.Errorf("with %q: %v", text, err)
		}
	}
	gone := attached("blue", "10.0.0.1", true)
	gone.Netns = "/run/netns/nowhere"
	if err := unnamed(gone, nil); err != nil {
		t.Errorf("without a namespace: %v", err)
	}
}
