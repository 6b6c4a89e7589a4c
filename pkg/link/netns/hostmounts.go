package netns

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// HostMounts are the paths below these folders on which the calling thread's own network
// namespace is mounted, each once and sorted: proc_pid_mountinfo(5) shows it as
// net:[inode] of an nsfs. None where that cannot be read.
func HostMounts(dirs ...string) []string {
	var own unix.Stat_t
	info, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil || unix.Stat("/proc/thread-self/ns/net", &own) != nil {
		return nil
	}
	root := fmt.Sprintf("net:[%d]", own.Ino)
	var all []string
	for line := range strings.Lines(string(info)) {
		f := strings.Fields(line)
		if len(f) > 4 && f[3] == root && slices.ContainsFunc(dirs, func(dir string) bool { return strings.HasPrefix(f[4], dir) }) {
			all = append(all, f[4])
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
