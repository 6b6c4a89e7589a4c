// scale measures one real agent in an overlay of many hosts: a real etcd has so many
// synthetic peers, keys that no host is behind; and 100 real agents, each on a host of
// its own (package cluster), that a new host joins.
//
// It prints tables. The default run takes about 8 minutes on 2 cores, -quick one.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// plan is how much to measure.
type plan struct {
	Peers   []int         // synthetic peers at which to measure
	Changes int           // of each kind, at each number of peers
	Traced  int           // of each kind, whose system calls are counted
	Rest    time.Duration // how long the agent is watched while nothing changes
	Settle  time.Duration // that it is left alone before
	Hosts   int           // real agents
	New     int           // of them join one after the other
	Sample  int           // containers that ask each new one
	Dual    bool          // both families
	AtOnce  int           // real agents that join at once, on a real API server of Kubernetes
}

func main() {
	p := plan{Changes: 100, Traced: 5, Rest: 30 * time.Second, Settle: 10 * time.Second, New: 5, Sample: 10}
	peers := flag.String("peers", "1000,5000", "synthetic peers, beside none at all")
	flag.IntVar(&p.Hosts, "hosts", 100, "real agents, at most 200; 0 leaves them out")
	flag.IntVar(&p.Changes, "changes", p.Changes, "changes of each kind")
	flag.DurationVar(&p.Rest, "rest", p.Rest, "how long an agent at rest is watched")
	flag.BoolVar(&p.Dual, "dual", false, "a network of both families")
	flag.IntVar(&p.AtOnce, "at-once", 0, "real agents that join at once, with Kubernetes' API as the store, at most 200")
	quick := flag.Bool("quick", false, "small numbers, to see that it works")
	bin := flag.String("bin", os.Getenv("BERTH_BIN"), "folder of Berth's binaries (default $BERTH_BIN, or ../bin)")
	flag.Parse()
	if *quick {
		quicken(&p, peers)
	}
	if *peers == "" {
		p.Peers = nil
	} else {
		p.Peers = []int{0}
		for s := range strings.SplitSeq(*peers, ",") {
			n, err := strconv.Atoi(s)
			if err != nil || n < 0 || n > maxPeers {
				fail(fmt.Errorf("peers: %q: 0 to %d", s, maxPeers))
			}
			p.Peers = append(p.Peers, n)
		}
		slices.Sort(p.Peers)
		p.Peers = slices.Compact(p.Peers)
	}
	if p.Hosts < 0 || p.Hosts+p.New > 220 {
		fail(fmt.Errorf("hosts: %d: 0 to 200", p.Hosts))
	}
	if p.AtOnce < 0 || p.AtOnce > 200 {
		fail(fmt.Errorf("at-once: %d: 0 to 200", p.AtOnce))
	}
	if *bin != "" {
		dir, err := filepath.Abs(*bin)
		fail(err)
		fail(os.Setenv("BERTH_BIN", dir)) // where package cluster looks
	}
	fail(run(p))
}

// quicken makes the numbers small that no flag has set.
func quicken(p *plan, peers *string) {
	set := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { set[f.Name] = true })
	p.Traced, p.Settle, p.New, p.Sample = 2, 2*time.Second, 1, 2
	if !set["peers"] {
		*peers = "100"
	}
	if !set["hosts"] {
		p.Hosts = 5
	}
	if !set["changes"] {
		p.Changes = 10
	}
	if !set["rest"] {
		p.Rest = 5 * time.Second
	}
}

func run(p plan) error {
	start := time.Now()
	fmt.Printf("Berth's agent in an overlay of many hosts\n%s\n", thisMachine())
	if len(p.Peers) > 0 {
		results, err := measurePeers(p)
		if err != nil {
			return err
		}
		printPeers(os.Stdout, p, results)
	}
	if p.Hosts > 0 {
		r, err := measureHosts(p)
		if err != nil {
			return err
		}
		r.print(os.Stdout)
	}
	if p.AtOnce > 0 {
		r, err := measureAtOnce(p)
		if err != nil {
			return err
		}
		r.print(os.Stdout)
	}
	fmt.Printf("\nThe run took %s.\n", time.Since(start).Round(time.Second))
	return nil
}

// progress says on standard error what is going on.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "scale: "+format+"\n", args...)
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}
