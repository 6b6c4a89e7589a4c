package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"
)

// report is what a kernel's run has shown.
type report struct {
	kernel  string
	start   time.Time
	took    time.Duration
	release string // as uname says it
	results []result
	err     error // that of the machine, or that there was none
}

// result is that of a test, or of a package whose tests did not come to an end.
type result struct {
	pkg, test string
	action    string // pass, fail or skip
	text      string
}

// read reads what the tests have left in the shared folder.
func (r *report) read(dir string, tests []test) {
	release, _ := os.ReadFile(release(dir))
	r.release = string(release)
	for _, t := range tests {
		results, err := t.results(dir)
		if err != nil {
			results = append(results, result{pkg: t.Name, action: "fail", text: err.Error()})
		}
		r.results = append(r.results, results...)
	}
}

// results are those of a package's tests, and an error where they did not come to an end.
func (t test) results(dir string) ([]result, error) {
	end, err := os.ReadFile(t.ended(dir))
	if err != nil {
		return nil, fmt.Errorf("did not end:\n%s", tail(t.output(dir), 20))
	}
	out, err := os.ReadFile(t.output(dir))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "tool", "test2json")
	cmd.Stdin = bytes.NewReader(out)
	events, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go tool test2json: %w", err)
	}
	results, err := decode(t.Name, events)
	failed := slices.ContainsFunc(results, func(r result) bool { return r.action == "fail" })
	if err == nil && string(end) != "ok" && !(failed && string(end) == "exit status 1") { // it did not end by itself
		err = fmt.Errorf("%s:\n%s", end, tail(t.output(dir), 20))
	}
	return results, err
}

// decode reads events of test2json: of each test the last action, and what it wrote.
func decode(pkg string, events []byte) (results []result, err error) {
	texts := map[string]*strings.Builder{}
	for d := json.NewDecoder(bytes.NewReader(events)); ; {
		var e struct{ Action, Test, Output string }
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			return results, nil
		} else if err != nil {
			return nil, fmt.Errorf("read what test2json says: %w", err)
		}
		text := texts[e.Test]
		if text == nil {
			text = new(strings.Builder)
			texts[e.Test] = text
		}
		switch e.Action {
		case "output":
			text.WriteString(e.Output)
		case "pass", "fail", "skip":
			if e.Test != "" {
				results = append(results, result{pkg, e.Test, e.Action, text.String()})
			}
		}
	}
}

// frame are the lines that go test writes itself.
var frame = regexp.MustCompile(`(?m)^\s*(=== (RUN|PAUSE|CONT|NAME)|--- (PASS|FAIL|SKIP):).*\n`)

// print prints the tests that failed and those that were skipped, or all.
func (r *report) print(w io.Writer, all bool) {
	for _, t := range r.results {
		text := strings.TrimSpace(frame.ReplaceAllString(t.text, ""))
		switch {
		case t.action == "fail":
			fmt.Fprintf(w, "%s: FAIL %s %s\n\t%s\n", r.kernel, t.pkg, t.test, strings.ReplaceAll(text, "\n", "\n\t"))
		case t.action == "skip":
			fmt.Fprintf(w, "%s: skip %s %s: %s\n", r.kernel, t.pkg, t.test, strings.Join(strings.Fields(text), " "))
		case all:
			fmt.Fprintf(w, "%s: pass %s %s\n", r.kernel, t.pkg, t.test)
		}
	}
	if r.err != nil {
		fmt.Fprintf(w, "%s: FAIL: %v\n", r.kernel, r.err)
	}
}

// count counts tests by their action.
func (r *report) count(action string) (n int) {
	for _, t := range r.results {
		if t.action == action {
			n++
		}
	}
	return n
}

// summary prints a line for each kernel, and says whether tests have run on each and none
// failed.
func summary(w io.Writer, reports []*report) bool {
	good := true
	fmt.Fprintln(w)
	for _, r := range reports {
		passed, failed := r.count("pass"), r.count("fail")
		if r.err != nil {
			failed++
		}
		good = good && failed == 0 && passed > 0
		fmt.Fprintf(w, "%s: %d passed, %d failed, %d skipped\n", r.kernel, passed, failed, r.count("skip"))
		fmt.Fprintf(w, "    Linux %s, %.0f s\n", cmp.Or(r.release, "did not start"), r.took.Seconds())
	}
	return good
}
