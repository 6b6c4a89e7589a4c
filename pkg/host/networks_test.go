package host

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/overlay"
)

// told is what a test is told of networks.
type told struct {
	called
	networks []string
}

func (n *told) Know(all []names.Network) {
	n.networks = nil
	for _, one := range all {
		n.networks = append(n.networks, fmt.Sprint(one.Name, " ", one.Named, " ", one.Subnets))
	}
	slices.Sort(n.networks)
}

// TestTellNetworks: networks are known by their configuration, by the overlay's definition,
// and by what containers have left.
func TestTellNetworks(t *testing.T) {
	conf, data := t.TempDir(), t.TempDir()
	for name, plugin := range map[string]string{
		"blue":   `"type": "bridge", "isGateway": true, "names": true, "ipam": {"ranges": [[{"subnet": "10.9.0.7/24"}], [{"subnet": "fd00:9::/64"}]]}`,
		"routed": `"type": "berth-bridge", "mode": "routed", "ipam": {"subnet": "10.10.0.0/24"}`,
		"layer2": `"type": "bridge", "names": false, "ipam": {"subnet": "192.0.2.0/24"}`, // whose gateway is another's
		"lan":    `"type": "macvlan", "master": "eth0", "ipam": {"subnet": "198.51.100.0/24"}`,
	} {
		text := `{"cniVersion": "1.1.0", "name": "` + name + `", "plugins": [{` + plugin + `}]}`
		if err := os.WriteFile(filepath.Join(conf, name+".conflist"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(conf, "broken.conflist"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := overlay.Local{Network: overlay.Network{Name: "far", Names: true, Subnets: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16")}}}
	if err := l.Write(data); err != nil {
		t.Fatal(err)
	}
	store := attach.New(t.TempDir(), nil)
	if err := store.Update(t.Context(), func(tx *attach.Tx) error {
		return tx.PutNetwork(attach.Network{Name: "used", Plugin: "bridge", Link: "br9", Settings: []string{"isolate", "names"}, Subnets: []netip.Prefix{netip.MustParsePrefix("10.11.0.0/24")}})
	}); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	is := &told{}
	k := &Keeper{Records: store, ConfDir: conf, DataDir: data, Names: is, Log: slog.New(slog.NewTextHandler(&log, nil))}
	files, err := k.configurations()
	if err == nil {
		t.Error("the broken one is not told of")
	}
	k.tellNetworks(t.Context(), files)
	want := []string{"blue true [10.9.0.0/24 fd00:9::/64]", "far true [10.42.0.0/16]", "routed false [10.10.0.0/24]", "used true [10.11.0.0/24]"}
	if !slices.Equal(is.networks, want) {
		t.Errorf("got %q, want %q\n%s", is.networks, want, &log)
	}
	if err := os.Remove(filepath.Join(conf, "blue.conflist")); err != nil {
		t.Fatal(err)
	}
	files, _ = k.configurations()
	k.tellNetworks(t.Context(), files)
	if !slices.Equal(is.networks, want[1:]) {
		t.Errorf("got %q, want %q\n%s", is.networks, want[1:], &log)
	}
}
