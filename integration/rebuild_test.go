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
	"time"

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

// TestRebuild damages the state file while containers live: 'berth doctor --fix' makes the
// records again, so that CHECK is good, all traffic goes on, nobody gets what another one
// has, and DEL leaves nothing.
func TestRebuild(t *testing.T) {
	t.Parallel()
	for name, change := range fileDamages() {
		t.Run(name, func(t *testing.T) {
			w, before := newTown(t)
			w.moveIn()
			w.lives(true, true)
			had := w.held()
			w.damage(change)
			told := w.doctor()
			if !strings.Contains(told, "is damaged") && !strings.HasPrefix(name, "pages") {
				t.Errorf("the doctor says nothing of it: %s", told)
			}
			fixed := w.doctor("--fix")
			if strings.Contains(fixed, "BAD") || strings.Contains(fixed, "not known") {
				t.Errorf("%s\nbefore:\n%s", fixed, told)
			}
			if has := w.held(); !slices.Equal(has, had) {
				t.Errorf("the records hold\n%s\nand held\n%s", strings.Join(has, "\n"), strings.Join(had, "\n"))
			}
			w.lives(true, true)
			w.refuses()
			w.moveOut(before, name)
			if t.Failed() {
				t.Log(fixed)
			}
		})
	}
}

// held are the keys of the records, and of what they hold.
func (b *bed) held() []string {
	b.t.Helper()
	s, err := b.Look("state")
	must(b.t, err)
	return slices.DeleteFunc(s["state"], func(line string) bool {
		return strings.HasPrefix(line, "cursors") || strings.HasPrefix(line, "networks")
	})
}

// TestRebuildModes is the other modes, of which the kernel has no interface with a mark:
// what runtimes keep tells of them.
func TestRebuildModes(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	chained := with(`{"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.87.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}}`)
	leases := `{"type": "ptp", "ipam": {"type": "berth-ipam", "subnet": "10.86.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}}`
	networks := map[string]*sandbox.Network{}
	for name, plugins := range map[string][]string{"web": {bridge}, "none": {none}, "host": {host}, "joined": {share("web")}, "leases": {leases},
		"chained": {chained, `{"type": "bridge", "bridge": "berth0", "ipMasq": true, "capabilities": {"portMappings": true}}`}} {
		n, err := b.Network(strings.Replace(conflist(version, plugins...), `"demo"`, `"`+name+`"`, 1), b.bin, b.ref)
		must(t, err)
		networks[name] = n
	}
	containers := map[string]*sandbox.Container{}
	opts := func(name string) []sandbox.Option {
		if name == "chained" {
			return []sandbox.Option{tcpPort(8081, 80)}
		}
		return []sandbox.Option{sandbox.Arg("IgnoreUnknown", "1"), sandbox.Arg("K8S_POD_NAME", name)}
	}
	names := []string{"web", "none", "host", "joined", "leases", "chained"}
	for _, name := range names {
		containers[name] = b.container(name)
		_, err := networks[name].Add(containers[name], opts(name)...)
		must(t, err)
	}
	serve(t, containers["chained"], ":80")
	had := b.held()
	must(t, b.Do(func() error { return os.Truncate(stateFile, 0) }))
	fixed, _ := b.Output(filepath.Join(b.bin, "berth"), "doctor", "--fix")
	if strings.Contains(fixed, "BAD") || strings.Contains(fixed, "not known") {
		t.Error(fixed)
	}
	if has := b.held(); !slices.Equal(has, had) {
		t.Errorf("the records hold\n%s\nand held\n%s", strings.Join(has, "\n"), strings.Join(had, "\n"))
	}
	b.answers(b.outside, "192.0.2.1:8081", containers["chained"], "192.0.2.2")
	for _, name := range names {
		if err := networks[name].Check(containers[name], opts(name)...); err != nil {
			t.Errorf("CHECK of %s: %v", name, err)
		}
	}
	slices.Reverse(names)
	for _, name := range names {
		must(t, networks[name].Del(containers[name], opts(name)...))
		must(t, containers[name].Remove())
	}
	if left := b.held(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if left, err := b.Output("sh", "-c", "nft list ruleset | grep -c comment"); err == nil {
		t.Errorf("elements of attachments are left: %s", left)
	}
}

// TestRebuildMissing has somebody remove the folder of the state, and the runtimes' cache.
func TestRebuildMissing(t *testing.T) {
	t.Parallel()
	w, before := newTown(t)
	w.moveIn()
	must(t, w.Do(func() error { return os.Remove(stateFile) }))
	if told := w.doctor(); !strings.Contains(told, "there is no state file in /run/berth") {
		t.Error(told)
	}
	if fixed := w.doctor("--fix"); strings.Contains(fixed, "BAD") || strings.Contains(fixed, "not known") {
		t.Error(fixed)
	}
	w.lives(true, true)
	w.refuses()

	// Without any trace but the kernel's, keys are found by the networks and namespaces.
	for file, conf := range map[string]string{"1.conflist": front, "2.conflist": back, "3.conflist": lan} {
		must(t, os.WriteFile(filepath.Join(w.conf, file), []byte(conf), 0o644))
	}
	cache := w.copyCache()
	must(t, w.front.DropCache())
	w.damage(func([]byte) []byte { return nil })
	fixed := w.doctor("--fix")
	if strings.Contains(fixed, "BAD") || !strings.Contains(fixed, "its names are not known") {
		t.Error(fixed)
	}
	w.restoreCache(cache)
	w.lives(true, false)
	w.refuses()
	w.moveOut(before, "missing")
}

// copyCache and restoreCache are for what libcni keeps.
func (w *town) copyCache() map[string][]byte {
	all := map[string][]byte{}
	must(w.t, w.Do(func() error {
		paths, err := filepath.Glob(sandbox.CacheDir + "/results/*")
		for _, p := range paths {
			if all[p], err = os.ReadFile(p); err != nil {
				return err
			}
		}
		return err
	}))
	return all
}

func (w *town) restoreCache(all map[string][]byte) {
	must(w.t, w.Do(func() error {
		for p, data := range all {
			if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
				return err
			}
			if err := os.WriteFile(p, data, 0o600); err != nil {
				return err
			}
		}
		return nil
	}))
}

// TestRebuildUnknown: of a container that nobody knows, the address and the port are kept
// from others, and its runtime's DEL finds it.
func TestRebuildUnknown(t *testing.T) {
	t.Parallel()
	w, before := newTown(t)
	must(t, os.WriteFile(filepath.Join(w.conf, "front.conflist"), []byte(front), 0o644))
	w.endAgent()
	c := w.container("path-of-nobody")
	c.ID = "0123456789abcdef-is-its-id"
	_, addr := w.add(w.front, c, tcpPort(9080, 80))
	serve(t, c, ":80")
	must(t, w.front.DropCache())
	w.damage(func([]byte) []byte { return nil })
	fixed := w.doctor("--fix")
	if strings.Contains(fixed, "BAD") || !strings.Contains(fixed, "not known: the container behind veth") {
		t.Error(fixed)
	}
	w.answers(w.outside, "192.0.2.1:9080", c, "192.0.2.2")
	late := w.container("late")
	if _, err := w.front.Add(late, tcpPort(9080, 80)); err == nil {
		t.Error("its port is published twice")
	}
	if _, got := w.add(w.front, late); got == addr {
		t.Errorf("%s is given twice", addr)
	}
	must(t, w.front.Del(late))
	must(t, late.Remove())
	must(t, w.front.Del(c, tcpPort(9080, 80)))
	must(t, c.Remove())
	if diff := before.Diff(w.look()); diff != nil {
		t.Errorf("the host is not as before:\n%s", strings.Join(diff, "\n"))
	}

	// The same, and the container ends without a DEL.
	gone := w.container("path-of-nobody")
	gone.ID = "0123456789abcdef-is-its-id"
	_, err := w.front.Add(gone, tcpPort(9080, 80))
	must(t, err)
	must(t, w.front.DropCache())
	w.damage(func([]byte) []byte { return nil })
	w.doctor("--fix")
	must(t, gone.Remove())
	for range 50 { // the kernel ends the namespace
		out, err := w.Output("env", "NETCONFPATH="+w.conf, filepath.Join(w.bin, "berth"), "gc")
		must(t, err)
		if strings.Contains(out, "removed") {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if diff := before.Diff(w.look()); diff != nil {
		t.Errorf("after gc the host is not as before:\n%s", strings.Join(diff, "\n"))
	}
}

// TestDelDamaged: a DEL while the state file is damaged leaves neither an interface nor a
// port that would lead to who comes next, and a rebuild does not bring it back.
func TestDelDamaged(t *testing.T) {
	t.Parallel()
	w, before := newTown(t)
	w.moveIn()
	w.damage(func(b []byte) []byte { return b[:len(b)/4096/2*4096] })
	w.leave()
	firewalls := []string{"nft", "iptables", "ip6tables"}
	after, err := w.Look(firewalls...)
	must(t, err)
	for _, section := range firewalls {
		for _, line := range after[section] {
			if !slices.Contains(before[section], line) {
				t.Errorf("left in %s: %s", section, line)
			}
		}
	}
	if fixed := w.doctor("--fix"); strings.Contains(fixed, "BAD") {
		t.Error(fixed)
	}
	if diff := before.Diff(w.look()); diff != nil {
		t.Errorf("after the rebuild the host is not as before:\n%s", strings.Join(diff, "\n"))
	}
}

// TestRebuildKilled kills 'berth doctor --fix' at random moments: the next one does the rest.
func TestRebuildKilled(t *testing.T) {
	t.Parallel()
	w, before := newTown(t)
	w.moveIn()
	random := rand.New(rand.NewPCG(9, 10))
	for range 15 {
		w.damage(func(b []byte) []byte { return b[:len(b)/4096/2*4096] })
		after := time.Duration(random.IntN(120)) * time.Millisecond
		out, err := w.Output("timeout", "-s", "KILL", fmt.Sprintf("%.3f", after.Seconds()+0.001), filepath.Join(w.bin, "berth"), "doctor", "--fix")
		if err != nil && strings.Contains(err.Error(), "exit status") && !strings.Contains(out, "done") {
			t.Errorf("%v: %s", err, out)
		}
	}
	if fixed := w.doctor("--fix"); strings.Contains(fixed, "BAD") || strings.Contains(fixed, "not known") {
		t.Error(fixed)
	}
	w.lives(true, true)
	w.refuses()
	w.moveOut(before, "killed")
}
