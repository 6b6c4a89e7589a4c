package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// The networks of a host whose state file gets damaged.
const (
	front = `{"cniVersion": "1.1.0", "name": "front", "plugins": [{"type": "bridge", "bridge": "br-front", "isDefaultGateway": true,
		"ipMasq": true, "isolate": true, "names": true, "firewallBackend": "nftables", "capabilities": {"portMappings": true, "aliases": true},
		"ipam": {"ranges": [[{"subnet": "10.90.0.0/16"}], [{"subnet": "fd00:90::/64"}]]}}]}`
	back = `{"cniVersion": "1.1.0", "name": "back", "plugins": [{"type": "bridge", "bridge": "br-back", "isDefaultGateway": true, "ipMasq": true, "icc": false, "mtu": 1400,
		"firewallBackend": "iptables", "capabilities": {"portMappings": true}, "ipam": {"type": "host-local", "subnet": "10.91.0.0/24"}}]}`
	lan = `{"cniVersion": "1.1.0", "name": "lan", "plugins": [{"type": "macvlan", "master": "uplink0", "hostShim": true, ` + macvlanIPAM + `}]}`
)

// town is a host with five containers on three networks.
type town struct {
	*bed
	front, back, lan *sandbox.Network
	web, shop        *known
	db, cache, tv    *sandbox.Container
	dbAddr, tvAddr   string
	conf             string // the folder of the networks' configurations
}

// networks makes them, and returns the host as it is when they have had a container.
func newTown(t *testing.T) (*town, sandbox.Snapshot) {
	t.Helper()
	b := newBed(t)
	w := &town{bed: b, conf: t.TempDir()}
	for _, n := range []struct {
		to   **sandbox.Network
		conf string
	}{{&w.front, front}, {&w.back, back}, {&w.lan, lan}} {
		var err error
		*n.to, err = b.Network(n.conf, b.bin, b.ref)
		must(t, err)
		first := b.container("first")
		_, err = (*n.to).Add(first, tcpPort(7999, 80))
		must(t, err)
		must(t, (*n.to).Del(first, tcpPort(7999, 80)))
		must(t, first.Remove())
	}
	b.endAgent()
	return w, w.look()
}

// look is the host without what follows from a rebuild: the damaged files that are kept,
// what host-local leased last, and the place of a lease that comes next. It waits for the end
// of the agent that was started on demand: no container with a name is left.
func (w *town) look() sandbox.Snapshot {
	w.t.Helper()
	w.soon(func() error {
		return w.Do(func() error {
			if _, err := os.Stat(sandbox.StateDir + "/agent.sock"); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("an agent started on demand has not ended: %v", err)
			}
			return nil
		})
	})
	s := w.snapshot().Without("process")
	for section, keep := range map[string]func(string) bool{
		"file": func(line string) bool {
			return !strings.Contains(line, "berth.db.") && !strings.Contains(line, "cache-libcni")
		},
		"state": func(line string) bool {
			return !strings.HasPrefix(line, "cursors") && !strings.HasPrefix(line, "networks")
		},
	} {
		s[section] = slices.DeleteFunc(s[section], func(line string) bool { return !keep(line) })
	}
	return s
}

var cachePort = []sandbox.Option{tcpPort(9091, 80), sandbox.IfName("eth1")}

// moveIn attaches the containers; cache's second interface is on another network.
func (w *town) moveIn() {
	w.t.Helper()
	w.web = w.named(w.front, "web", tcpPort(9080, 80), sandbox.Cap("aliases", []string{"www"}))
	w.shop = w.named(w.front, "shop")
	w.db, w.cache, w.tv = w.container("db"), w.container("cache"), w.container("tv")
	_, w.dbAddr = w.add(w.back, w.db, tcpPort(9090, 80))
	_, err := w.front.Add(w.cache)
	must(w.t, err)
	_, err = w.back.Add(w.cache, cachePort...)
	must(w.t, err)
	_, w.tvAddr = w.add(w.lan, w.tv)
	for _, c := range []*sandbox.Container{w.web.Container, w.db, w.cache, w.tv} {
		serve(w.t, c, ":80")
	}
}

// lives fails the test unless all that the containers were given is there.
func (w *town) lives(checked, named bool) {
	w.t.Helper()
	if checked {
		for what, err := range map[string]error{
			"web": w.front.Check(w.web.Container, w.web.opts...), "shop": w.front.Check(w.shop.Container, w.shop.opts...),
			"db": w.back.Check(w.db, tcpPort(9090, 80)), "cache": w.front.Check(w.cache), "cache eth1": w.back.Check(w.cache, cachePort...),
			"tv": w.lan.Check(w.tv),
		} {
			if err != nil {
				w.t.Errorf("CHECK of %s: %v", what, err)
			}
		}
	}
	w.answers(w.outside, "192.0.2.1:9080", w.web.Container, "192.0.2.2")
	w.answers(w.outside, "192.0.2.1:9090", w.db, "192.0.2.2")
	w.answers(w.outside, "192.0.2.1:9091", w.cache, "192.0.2.2")
	w.answers(w, w.tvAddr+":80", w.tv, "")
	if named {
		w.shop.finds("www", w.web.addr)
	}
}

// refuses fails the test unless a container that comes now gets an address and ports that
// nobody has.
func (w *town) refuses() {
	w.t.Helper()
	if n, err := w.front.Add(w.container("late"), tcpPort(9080, 80)); err == nil {
		w.t.Errorf("a port is published twice: %v", n)
	}
	late := &sandbox.Container{ID: "late", Netns: "/run/netns/late"}
	for _, n := range []*sandbox.Network{w.front, w.back, w.lan} {
		_, addr := w.add(n, late)
		if addr == w.web.addr || addr == w.shop.addr || addr == w.dbAddr || addr == w.tvAddr {
			w.t.Errorf("%s is given twice", addr)
		}
		must(w.t, n.Del(late))
	}
	_, err := w.Output("ip", "netns", "del", "late")
	must(w.t, err)
}

// moveOut has the runtime delete all, and fails the test if anything is left.
func (w *town) moveOut(before sandbox.Snapshot, what string) {
	w.t.Helper()
	w.leave()
	if diff := before.Diff(w.look()); diff != nil {
		w.t.Errorf("%s: the host is not as before:\n%s", what, strings.Join(diff, "\n"))
	}
}

func (w *town) leave() {
	w.t.Helper()
	must(w.t, w.back.Del(w.cache, cachePort...))
	must(w.t, w.front.Del(w.cache))
	must(w.t, w.back.Del(w.db, tcpPort(9090, 80)))
	must(w.t, w.lan.Del(w.tv))
	w.web.leave()
	w.shop.leave()
	for _, c := range []*sandbox.Container{w.db, w.cache, w.tv} {
		must(w.t, c.Remove())
	}
}

// doctor runs it, and returns what it writes.
func (w *town) doctor(args ...string) string {
	out, _ := w.Output("env", append([]string{"NETCONFPATH=" + w.conf, filepath.Join(w.bin, "berth"), "doctor"}, args...)...)
	return out
}

const stateFile = sandbox.StateDir + "/berth.db"

// damage changes the state file.
func (w *town) damage(change func(good []byte) []byte) {
	w.t.Helper()
	must(w.t, w.Do(func() error {
		good, err := os.ReadFile(stateFile)
		if err != nil {
			return err
		}
		return os.WriteFile(stateFile, change(good), 0o600)
	}))
}

// fileDamages are what can become of the state file.
func fileDamages() map[string]func([]byte) []byte {
	const page = 4096
	random := rand.New(rand.NewPCG(7, 8))
	junk := func(b []byte) []byte {
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	all := map[string]func([]byte) []byte{
		"empty": func([]byte) []byte { return nil }, "cut": func(b []byte) []byte { return b[:5000] },
		"half":    func(b []byte) []byte { return b[:len(b)/2/page*page] },
		"garbage": func(b []byte) []byte { return junk(b) }, "zeros": func(b []byte) []byte { return make([]byte, len(b)) },
		"meta pages": func(b []byte) []byte { junk(b[:2*page]); return b },
	}
	for n := 2; n < 12; n += 3 {
		all[fmt.Sprintf("pages from %d", n)] = func(b []byte) []byte {
			if from := n * page; from+3*page <= len(b) {
				junk(b[from : from+3*page])
			}
			return b
		}
	}
	return all
}
