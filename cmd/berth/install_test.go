package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/overlay"
)

// blueHere has the host know an overlay network from its agent; the desk has no store.
func blueHere(t *testing.T) *desk {
	p := newDesk(t, "")
	n := overlay.Network{Name: "blue", ID: "1", VNI: 4097, Names: true, Subnets: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16")}}
	n.SetDefaults()
	if err := (&overlay.Local{Network: n, Node: "a", MTU: 1450}).Write(overlay.DataDir()); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestConflistHere: what the host knows is asked of nobody, and what nobody knows prints
// nothing.
func TestConflistHere(t *testing.T) {
	p := blueHere(t)
	code, out, errs := p.run("network", "conflist", "blue")
	if code != 0 || !strings.Contains(out, `"name": "blue"`) || !strings.Contains(out, `"names": true`) || errs != "" {
		t.Errorf("%d, %q, %q", code, out, errs)
	}
	for _, name := range []string{"red", "a/b"} {
		if code, out, errs := p.run("network", "conflist", name); code == 0 || out != "" || errs == "" {
			t.Errorf("%s: %d, %q, %q", name, code, out, errs)
		}
	}
	own := `{"cniVersion": "1.0.0", "name": "blue", "type": "vxlan-overlay", "hairpinMode": true}`
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.dir, "20-mine.conf"), []byte(own), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, out, _ := p.run("network", "conflist", "blue"); out != own {
		t.Errorf("the file of this host: %q", out)
	}
}

func TestInstall(t *testing.T) {
	p := blueHere(t)
	path := filepath.Join(p.dir, "blue.conflist")
	_, want, _ := p.run("network", "conflist", "blue")
	for range 2 { // the second time it is there already
		if code, out, errs := p.run("network", "install", "blue"); code != 0 || out != "NETDIR/blue.conflist\n" || !strings.Contains(errs, "once 'berth agent' runs") {
			t.Errorf("%d, %q, %q", code, out, errs)
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != want {
			t.Errorf("%v:\n%s", err, data)
		}
	}
	code, out, errs := p.run("network", "install", "red", "blue")
	if code == 0 || out != "NETDIR/blue.conflist\n" || !strings.Contains(errs, "install network red: ") {
		t.Errorf("one is not known: %d, %q, %q", code, out, errs)
	}
	mine := strings.Replace(want, `"names": true`, `"names": false`, 1)
	if err := os.WriteFile(path, []byte(mine), 0o644); err != nil {
		t.Fatal(err)
	}
	code, _, errs = p.run("network", "install", "blue")
	if data, _ := os.ReadFile(path); code != exitFailed || !strings.Contains(errs, "says something else") || string(data) != mine {
		t.Errorf("somebody changed it: %d, %q", code, errs)
	}
	if err := os.WriteFile(path, []byte(`{"cniVersion": "1.0.0", "name": "blue", "type": "bridge"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := p.run("network", "install", "blue"); code != exitFailed || !strings.Contains(errs, "is a network of this host") {
		t.Errorf("a bridge has the name: %d, %q", code, errs)
	}
}
