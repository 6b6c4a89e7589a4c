package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
)

// fatal are the syscalls before each of which the plugin is killed: those that
// change the world, and those after which it has changed.
var fatal = []string{"sendto", "sendmsg", "recvfrom", "recvmsg", "write", "pwrite64", "fdatasync", "fsync", "ftruncate",
	"rename", "renameat", "renameat2", "unlinkat", "mkdirat", "openat", "flock", "setns", "ioctl", "close", "exit_group"}

// TestKillAdd kills ADD at many points, and deletes what it left.
func TestKillAdd(t *testing.T) {
	t.Parallel()
	killed(t, func(k *killing) {
		k.run("ADD")
		k.finish("DEL")
	})
}

// TestKillDel kills DEL at many points, and has it called again.
func TestKillDel(t *testing.T) {
	t.Parallel()
	killed(t, func(k *killing) {
		k.finish("ADD")
		k.run("DEL")
		k.finish("DEL")
	})
}

// TestKillThenCollect kills ADD, and leaves the cleaning up to GC.
func TestKillThenCollect(t *testing.T) {
	t.Parallel()
	killed(t, func(k *killing) {
		k.run("ADD")
		call := k.call
		call.Verb, call.Container, call.Netns = "GC", "", ""
		call.Config = config(version, bridge, `"cni.dev/valid-attachments": [{"containerID": "neighbour", "ifname": "eth0"}]`)
		k.b.good(k.b.call(call))
	})
}

// killing is one round: a container, and the way in which the plugin is killed.
type killing struct {
	b        *bed
	call     sandbox.Call // ADD or DEL of the container
	wrap     []string
	after    time.Duration
	survived bool
	hits     int // how often it was killed
}

// run has the plugin killed in a verb.
func (k *killing) run(verb string) {
	call := k.call
	call.Verb, call.Wrap, call.KillAfter = verb, k.wrap, k.after
	exit := k.b.call(call).Exit
	k.survived = exit == 0
	if exit < 0 {
		k.hits++
	}
}

// finish lets the plugin do its work.
func (k *killing) finish(verb string) {
	k.b.t.Helper()
	call := k.call
	call.Verb = verb
	k.b.good(k.b.call(call))
}

// killed goes through the points: by time, and by the number of a syscall. After
// each the host is as before, and the neighbour is well.
func killed(t *testing.T, round func(*killing)) {
	b := newBed(t)
	n, _ := b.used(bridge)
	neighbour := b.container("neighbour")
	b.add(n, neighbour, tcpPort(8080, 80))
	serve(t, neighbour, ":80")
	victim := b.container("victim")
	before := b.snapshot()
	quick, err := b.Look(sandbox.Quick...)
	must(t, err)

	k := &killing{b: b, call: sandbox.Call{Container: victim.ID, Netns: victim.Netns, Config: config(version, bridge,
		`"runtimeConfig": {"portMappings": [{"hostPort": 9090, "containerPort": 80, "protocol": "tcp"}]}`)}}
	point := func(name string) {
		t.Helper()
		round(k)
		now, err := b.Look(sandbox.Quick...)
		must(t, err)
		if diff := quick.Diff(now); diff != nil {
			t.Fatalf("killed %s (exit 0: %v), left behind:\n%s", name, k.survived, strings.Join(diff, "\n"))
		}
	}
	start := time.Now()
	const steps, tries = 120, 8
	for range tries {
		point("never")
	}
	// A round has two verbs or three, and the look at the host after it is longer.
	longest := min(time.Since(start)/tries, 12*time.Millisecond)
	for i := range steps {
		k.after = longest * time.Duration(i+1) / steps
		point("after " + k.after.String())
	}
	k.after = 0
	const most = 60
	for _, name := range fatal {
		k.survived = false
		for i := 1; !k.survived && i <= most; i++ {
			k.wrap = []string{"strace", "-f", "-qq", "-o", "/dev/null", "-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", name, i)}
			point(fmt.Sprintf("before %s number %d", name, i))
		}
	}
	k.wrap = nil
	t.Logf("killed %d times", k.hits)
	if k.hits < 100 {
		t.Errorf("killed %d times only", k.hits)
	}
	b.answers(b.outside, sandbox.HostAddr4+":8080", neighbour, sandbox.OutsideAddr4)
	must(t, n.Check(neighbour, tcpPort(8080, 80)))
	b.same(before, "after all kills")
}
