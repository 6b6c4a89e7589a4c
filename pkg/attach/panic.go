package attach

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
)

// StackEnv is the environment variable that has the stack of a panic written to
// stderr. Errors have one line of it, whatever the variable says.
const StackEnv = "BERTH_STACK"

// PanicError is a panic of what was running.
type PanicError struct {
	What  string // was running: "bridge"
	Value any
	Where string // the file and line that panicked
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("bug in %s: %v (%s)", e.What, e.Value, e.Where)
}

// Recover is to be deferred: it turns a panic into a [*PanicError].
func Recover(err *error, what string) {
	p := recover()
	if p == nil {
		return
	}
	if os.Getenv(StackEnv) != "" {
		fmt.Fprintf(os.Stderr, "berth: %s: panic: %v\n%s", what, p, debug.Stack())
	}
	*err = &PanicError{what, p, panicked()}
}

// panicked is where the panic came from, while it is recovered: the first function
// that is not the runtime's, below the one that panics.
func panicked() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	for seen := false; ; {
		f, more := frames.Next()
		of := strings.HasPrefix(f.Function, "runtime.")
		if seen && !of {
			file := f.File
			if i := strings.Index(file, module); i >= 0 {
				file = file[i+len(module):]
			}
			return fmt.Sprintf("%s:%d", file, f.Line)
		}
		seen = seen || f.Function == "runtime.gopanic"
		if !more {
			return "place unknown"
		}
	}
}

// module is the prefix of this module's files in a binary that was built with
// -trimpath.
const module = "github.com/berth-cni/berth/"
