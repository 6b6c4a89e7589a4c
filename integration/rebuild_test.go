package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
)

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
	for name, plugins := range map[string][]string{"web": {bridge}, "none": {none}, "host": {host}, "joined": {share("web")}, "leases": {leases}, "routed": {strings.NewReplacer("10.88.", "10.89.", "fd00:88:", "fd00:89:").Replace(with(routed, `"ipspoofchk": true`))},
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
	names := []string{"web", "routed", "none", "host", "joined", "leases", "chained"}
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
