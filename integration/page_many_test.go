package integration

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
)

// TestPageMany has a page show 200 containers on 10 networks, and tells how long it takes a
// container to be seen. With BERTH_PAGE, a duration such as 30s, it tells what the server
// takes for so long of a processor: with the page open, while they send, and with no page.
func TestPageMany(t *testing.T) {
	t.Parallel()
	const networks, containers = 10, 200
	b := &traced{bed: newBed(t), all: map[string]*sandbox.Container{}, at: map[string]string{}}
	for i := range containers {
		b.add(tracedNetwork(fmt.Sprintf("net-%d", i%networks), strconv.Itoa(i%networks)), fmt.Sprintf("web-%d", i), tcpPort(20000+i, 80))
	}
	s := b.browse()
	s.await(fmt.Sprintf(`[...boxes.keys()].filter(id => id.startsWith("container:")).length === %d`, containers))
	s.await(fmt.Sprintf(`at("networks").children.length === %d`, networks))
	s.shot("many")

	// A network's box stays in sight while its containers pass by.
	const seventh = `boxes.get("network:net-7").getBoundingClientRect()`
	must(t, s.Value(`(document.querySelector("[data-network='network:net-7']").click(), 0)`, nil))
	s.await(seventh + `.top > 100 && ` + seventh + `.top < 300 && boxes.get("container:web-7").getBoundingClientRect().top < 300`)
	must(t, s.Value(`(scrollBy(0, 900), 0)`, nil))
	s.await(`boxes.get("container:web-7").getBoundingClientRect().top < 0 && ` + seventh + `.top > 100 && ` + seventh + `.top < 300`)
	s.await(`document.querySelector("[data-network='network:net-7']").getAttribute("aria-current") && !document.querySelector("[data-network='network:net-1']").getAttribute("aria-current")`)
	s.shot("middle")
	must(t, s.Value(`(scrollTo(0, 0), 0)`, nil))

	must(t, s.Value(`(window.seen = {}, new MutationObserver(() => {
		for (const id of boxes.keys()) if (!(id in seen)) seen[id] = performance.timeOrigin + performance.now();
	}).observe(at("picture"), {childList: true}), 0)`, nil))
	for i := range 5 {
		name := fmt.Sprintf("late-%d", i)
		start := time.Now()
		b.add(tracedNetwork("net-3", "3"), name)
		added := time.Now()
		s.await(`"container:` + name + `" in seen`)
		var at float64 // ms, by the same clock
		must(t, s.Value(`seen["container:`+name+`"]`, &at))
		seen := time.UnixMicro(int64(at * 1000))
		t.Logf("ADD took %v, and was seen %v after its end", added.Sub(start).Round(time.Millisecond), seen.Sub(added).Round(time.Millisecond))
	}
	if pause, err := time.ParseDuration(os.Getenv("BERTH_PAGE")); err == nil {
		s.usage(b, pause)
	}
	s.quiet()
	s.ends(syscall.SIGINT)
}

// usage tells what the server takes.
func (s *served) usage(b *traced, pause time.Duration) {
	s.t.Helper()
	cpu := func(what string) {
		before := cpuOf(s.t, s.cmd.Process.Pid)
		start := time.Now()
		time.Sleep(pause)
		s.t.Logf("%s: %.2f %% of a processor, for %v", what, 100*(cpuOf(s.t, s.cmd.Process.Pid)-before).Seconds()/time.Since(start).Seconds(), pause)
	}
	cpu("one page open, nothing sent")
	stop := make(chan struct{})
	for i := range 20 {
		go func() {
			name := fmt.Sprintf("web-%d", i*10)
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = b.all[name].Output("ping", "-c", "50", "-i", "0.1", "-q", sandbox.OutsideAddr4)
				}
			}
		}()
	}
	cpu("one page open, 20 containers send")
	s.shot("busy")
	close(stop)
	must(s.t, s.Open("about:blank"))
	time.Sleep(time.Second)
	cpu("no page open")
}

// cpuOf is what a process, and those of its children that have ended, have used of the
// processors (proc_pid_stat(5)).
func cpuOf(t *testing.T, pid int) time.Duration {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+2:]))
	var ticks int
	for _, f := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.Atoi(f)
		must(t, err)
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100
}
