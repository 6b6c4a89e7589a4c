package screen

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Guard ends the program with exit code 1 when it is interrupted, or not done after so
// long, and the programs that it has started. Namespaces end with the last process in them.
func Guard(patience time.Duration) {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	why := "interrupted"
	select {
	case <-interrupted:
	case <-time.After(patience):
		why = fmt.Sprintf("not done after %s", patience)
	}
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, path := range lists {
		list, _ := os.ReadFile(path)
		for pid := range strings.FieldsSeq(string(list)) {
			if n, err := strconv.Atoi(pid); err == nil {
				_ = unix.Kill(n, unix.SIGKILL)
			}
		}
	}
	fmt.Fprintln(os.Stderr, "\ndemo:", why)
	os.Exit(1)
}
