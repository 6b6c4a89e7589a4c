package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
)

// TestMacvlanKill kills ADD, then DEL, at many points; another DEL, or a GC, removes
// what is left, the shim, too.
func TestMacvlanKill(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	conf := with(macvlan, `"hostShim": true`, `"master": "uplink0"`)
	c := b.container("victim")
	call := sandbox.Call{Container: c.ID, Netns: c.Netns, Config: config(version, conf)}
	do := func(verb string, wrap ...string) int {
		one := call
		one.Verb, one.Wrap = verb, wrap
		if verb == "GC" {
			one.Container, one.Netns = "", ""
			one.Config = config(version, conf, `"cni.dev/valid-attachments": []`)
		}
		r := b.callMacvlan(one)
		if wrap == nil {
			b.good(r)
		}
		return r.Exit
	}
	do("ADD")
	do("DEL")
	look := func() sandbox.Snapshot {
		s, err := b.Look(sandbox.Quick...)
		must(t, err)
		out, err := c.Output("ip", "-o", "link")
		must(t, err)
		route, err := b.Output("ip", "route")
		must(t, err)
		s["inside"], s["route"] = strings.Split(out, "\n"), strings.Split(route, "\n")
		return s
	}
	before := look()
	hits := 0
	for _, round := range [][]string{{"", "ADD", "DEL"}, {"ADD", "DEL", "DEL"}, {"", "ADD", "GC"}} {
		for _, name := range []string{"sendto", "recvfrom", "write", "pwrite64", "fdatasync", "flock", "setns", "exit_group"} {
			for i, exit := 1, -1; exit != 0 && i <= 40; i++ {
				if round[0] != "" {
					do(round[0])
				}
				exit = do(round[1], "strace", "-f", "-qq", "-o", "/dev/null", "-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", name, i))
				if exit < 0 {
					hits++
				}
				do(round[2])
				if diff := before.Diff(look()); diff != nil {
					t.Fatalf("%s killed before %s number %d, then %s, left:\n%s", round[1], name, i, round[2], strings.Join(diff, "\n"))
				}
			}
		}
	}
	t.Logf("killed %d times", hits)
	if hits < 50 {
		t.Errorf("killed %d times only", hits)
	}
}

// TestMacvlanManyAtOnce: concurrent ADDs and DELs share one shim, and it goes with
// the last.
func TestMacvlanManyAtOnce(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n, before := b.usedMacvlan(with(macvlan, `"hostShim": true`))
	const many = 12
	done := make(chan error, many)
	var all []*sandbox.Container
	for i := range many {
		all = append(all, b.container(fmt.Sprintf("m%d", i)))
	}
	for i, c := range all {
		go func() {
			for range 3 {
				if _, err := n.Add(c); err != nil {
					done <- err
					return
				}
				if err := n.Check(c); err != nil {
					done <- err
					return
				}
				time.Sleep(time.Duration(i) * time.Millisecond)
				if err := n.Del(c); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range many {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for _, c := range all {
		must(t, c.Remove())
	}
	b.same(before, "after all")
}
