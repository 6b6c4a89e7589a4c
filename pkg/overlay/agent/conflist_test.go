package agent

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/berth-cni/berth/pkg/overlay"
)

// TestConflist: the file is there once a container could be attached, and its plugin is
// installed, and not before. It is put back, and another version's is replaced; what
// somebody changed stays.
func TestConflist(t *testing.T) {
	h := newHost(t)
	var installed atomic.Bool
	h.conf.Installed = installed.Load
	h.conf.Default = "blue"
	first, other := filepath.Join(h.conf.ConfDir, "10-berth-blue.conflist"), filepath.Join(h.conf.ConfDir, "net-blue.conflist")
	says := func(path, text string) func() bool {
		return func() bool {
			data, err := os.ReadFile(path)
			return err == nil && strings.Contains(string(data), text)
		}
	}
	h.start()
	h.until("it says that there is no such network", func() bool { return strings.Contains(h.agent.Status().Why, "the default one") })
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}})
	h.until("the host has a block", func() bool { return len(h.local("blue").Blocks) == 1 })
	h.until("it says what is missing", func() bool { return strings.Contains(h.agent.Status().Why, "plugin is not installed") })
	if files, _ := os.ReadDir(h.conf.ConfDir); len(files) > 0 {
		t.Errorf("%s is there before the plugin is", files[0].Name())
	}
	installed.Store(true)
	h.until("the conflist", says(first, `"vxlan-overlay"`))
	h.until("ready", func() bool { return h.agent.Status().Ready })
	if err := os.Remove(first); err != nil {
		t.Fatal(err)
	}
	h.until("the conflist is back", says(first, `"vxlan-overlay"`))

	h.stop()
	h.conf.Plugin = "berth-vxlan-overlay" // as another version may write it
	h.start()
	h.until("the other version's conflist", says(first, `"berth-vxlan-overlay"`))
	h.stop()
	h.conf.Mode = "routed"
	h.start()
	h.until("the other mode", says(first, `"mode": "routed"`))
	h.stop()
	h.conf.Plugin, h.conf.Default, h.conf.Mode = "", "", ""
	if err := os.Rename(first, other); err != nil { // that of a network which is not the default one
		t.Fatal(err)
	}
	h.start()
	h.until("the name without a default network", says(filepath.Join(h.conf.ConfDir, "blue.conflist"), `"vxlan-overlay"`))
	h.until("one file alone", func() bool { files, _ := os.ReadDir(h.conf.ConfDir); return len(files) == 1 })

	h.stop()
	path := filepath.Join(h.conf.ConfDir, "blue.conflist")
	if err := os.WriteFile(path, []byte(`{"name": "blue", "somebody": "else"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	h.conf.Plugin = "berth-vxlan-overlay"
	h.start()
	h.until("ready", func() bool { return h.agent.Status().Ready })
	if !says(path, "somebody")() {
		t.Error("what somebody changed was written over")
	}
	h.store.remove(false)
	h.until("the network is gone", func() bool { return h.local("blue").Node == "" })
	if !says(path, "somebody")() {
		t.Error("what somebody changed was removed")
	}
}
