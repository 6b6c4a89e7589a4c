package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpu is the time that a process has computed since its start, in user and kernel
// mode. The clock of another process is CPUCLOCK_SCHED of its number
// (clock_getcpuclockid(3)), exact to the nanosecond.
func cpu(pid int) (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &t); err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// effort is what a process has computed since its start.
type effort struct{ user, system time.Duration }

// effortOf reads utime and stime of proc_pid_stat(5), in ticks of 10 ms.
func effortOf(pid int) (effort, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return effort{}, err
	}
	_, rest, _ := strings.Cut(string(data), ") ") // the name may have blanks
	var user, system int64
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return effort{}, fmt.Errorf("/proc/%d/stat: %q has too few fields", pid, data)
	}
	for i, into := range []*int64{&user, &system} {
		if *into, err = strconv.ParseInt(fields[11+i], 10, 64); err != nil {
			return effort{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
	}
	const tick = 10 * time.Millisecond
	return effort{time.Duration(user) * tick, time.Duration(system) * tick}, nil
}

func (e effort) since(before effort) effort {
	return effort{e.user - before.user, e.system - before.system}
}

// memory is what a process holds: resident, and its part of what it shares, in bytes,
// and its open files.
type memory struct {
	rss, pss, peak int64
	files          int
}

func memoryOf(pid int) (m memory, err error) {
	for _, f := range []struct {
		file, key string
		into      *int64
	}{{"smaps_rollup", "Rss:", &m.rss}, {"smaps_rollup", "Pss:", &m.pss}, {"status", "VmHWM:", &m.peak}} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, f.file))
		if err != nil {
			return m, err
		}
		for line := range strings.Lines(string(data)) {
			if rest, ok := strings.CutPrefix(line, f.key); ok {
				kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
				if err != nil {
					return m, fmt.Errorf("%s of process %d: %w", f.key, pid, err)
				}
				*f.into = kib << 10
			}
		}
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	m.files = len(open)
	return m, err
}

func mb(bytes int64) string { return fmt.Sprintf("%.1f", float64(bytes)/1e6) }

// thisMachine is what the numbers were measured on.
func thisMachine() string {
	var name unix.Utsname
	var info unix.Sysinfo_t
	_, _ = unix.Uname(&name), unix.Sysinfo(&info) // their only errors are of addresses
	return fmt.Sprintf("%s, %d cores, %.0f GiB, Linux %s, %s", time.Now().Format("2006-01-02"), runtime.NumCPU(),
		float64(info.Totalram)*float64(info.Unit)/(1<<30), bytes.TrimRight(name.Release[:], "\x00"), runtime.Version())
}
