// bench measures Berth beside the reference plugins and the kernel itself, through
// libcni, interleaved in one run. Each contestant has a host of its own (package
// sandbox); the rounds go from one to the next, so that noise hits all of them.
//
// It prints a table and writes a plot (SVG) and the numbers (JSON). The default run
// takes about 10 minutes on 2 cores, -quick less than one.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
)

// plan is how much to measure.
type plan struct {
	Populations []int // attached containers at which ADD, CHECK and DEL are sampled
	Rounds      int   // samples at each population
	SlowRounds  int   // the same for the reference plugins
	Fill        time.Duration
	// Fill is how long the slow contestants may take to reach all populations
	// together; then they stop where they are.
	Burst  int // containers
	Flight int // of them at a time
	Bursts int // repetitions; 1 for the slow
	Leases int
	Starts int // runs of VERSION
	// ModeRounds is the number of samples of each of the other modes.
	ModeRounds int
}

func main() {
	p := plan{Rounds: 50, SlowRounds: 30, Fill: 330 * time.Second, Burst: 200, Flight: 8, Bursts: 3, Leases: 60000, Starts: 50, ModeRounds: 30}
	populations := flag.String("populations", "0,100,500,1000", "attached containers at which to sample; one bridge has room for 1,023")
	quick := flag.Bool("quick", false, "small numbers, to see that it works")
	bin := flag.String("berth", os.Getenv("BERTH_BIN"), "folder of Berth's plugins (default $BERTH_BIN, or ../bin); \"none\" leaves Berth out")
	beside := flag.String("beside", "", "folder of another build's plugins: how a change compares with what was before, and nothing else")
	out := flag.String("out", "bench-out", "folder for the plot and the numbers")
	only := flag.Bool("modes", false, "only the other modes; writes no plot and no numbers")
	flag.DurationVar(&p.Fill, "fill", p.Fill, "how long the reference may take to be filled")
	flag.Parse()
	if *quick {
		*populations = "0,20"
		p = plan{Rounds: 10, SlowRounds: 5, Fill: 20 * time.Second, Burst: 24, Flight: 8, Bursts: 1, Leases: 5000, Starts: 10, ModeRounds: 10}
	}
	for s := range strings.SplitSeq(*populations, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 || n > 1000 {
			fail(fmt.Errorf("population %q: 0 to 1000", s))
		}
		p.Populations = append(p.Populations, n)
	}
	// Fewer collections in this process, which is measured along.
	debug.SetGCPercent(800)
	if *only {
		fail(benchModes(p, *bin, *out))
		return
	}
	fail(bench(p, *bin, *beside, *out))
}

func bench(p plan, bin, beside, out string) error {
	start := time.Now()
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	contestants, err := lineUp(bin, beside, out)
	if err != nil {
		return err
	}
	r := report{Machine: thisMachine(), Plan: p}
	for _, measure := range []func([]*contestant, plan) error{startUp, memory, bursts, samples} {
		if err := measure(contestants, p); err != nil {
			return err
		}
	}
	for _, c := range contestants {
		r.Results = append(r.Results, &c.result)
	}
	if beside == "" {
		if r.IPAM, err = ipamAlone(p.Leases, p.Rounds); err != nil {
			return err
		}
		if r.Modes, err = modes(contestants, p); err != nil {
			return err
		}
	}
	r.Took = time.Since(start).Round(time.Second).String()
	r.print(os.Stdout)
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, "bench.json"), data, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "bench.svg"), plot(r), 0o644)
}

// benchModes measures and prints the other modes alone.
func benchModes(p plan, bin, out string) error {
	start := time.Now()
	contestants, err := lineUp(bin, "", out)
	if err != nil {
		return err
	}
	r := report{Machine: thisMachine(), Plan: p}
	if r.Modes, err = modes(contestants, p); err != nil {
		return err
	}
	if r.Modes == nil {
		return errors.New("there are no other modes without Berth")
	}
	r.Took = time.Since(start).Round(time.Second).String()
	r.print(os.Stdout)
	return nil
}

// progress says on standard error what is going on.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// berthBinaries is the folder that the -berth flag names.
func berthBinaries(flag string) (string, error) {
	if flag == "" {
		return sandbox.Binaries()
	}
	return filepath.Abs(flag)
}
