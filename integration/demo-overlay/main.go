// demo-overlay shows Berth's overlay on a terminal: three hosts with a store, containers
// that reach each other across them, how fast, and what happens when a host, a device or
// the store is lost.
//
// Everything happens on hosts of its own (package cluster), joined by an underlay. Every
// tick is the outcome of a comparison; the exit code is 0 only when all of them held, but
// for those about speed, which warn.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/berth-cni/berth/integration/screen"
)

// patience is how long the whole demo may take. It takes some 20 seconds.
const patience = 100 * time.Second

func main() {
	// The process's first thread never ends: it must not be one that a host borrows,
	// or the host's namespaces would not end either.
	runtime.LockOSThread()
	bin := flag.String("bin", "../bin", "folder of Berth's plugins and of berth")
	flag.Parse()
	go screen.Guard(patience)
	err := run(os.Stdout, screen.IsTerminal(os.Stdout), *bin, shown)
	if err != nil && !errors.Is(err, screen.ErrFailed) {
		fmt.Fprintln(os.Stderr, "demo-overlay:", err)
	}
	if err != nil {
		os.Exit(1)
	}
}

// effort is how much is measured, and how near it has to come to a tunnel made by hand.
type effort struct {
	rounds int
	run    time.Duration // of one measurement
	least  float64       // part of its throughput
	most   float64       // times its round trip
}

// shown is what a person sees. The benchmark of integration/overlay is what measures.
var shown = effort{rounds: 5, run: 150 * time.Millisecond, least: 0.6, most: 2}

// step is a part of the demo.
type step struct {
	title, about string
	show         func() error
}

func (l *lab) steps() []step {
	return []step{
		{"The network", "Made once, on any host. The agent of each host claims a block of each subnet.", l.showNetwork},
		{"Containers", "One ADD for each, which asks nobody: the agent has left what it needs on the host.", l.showContainers},
		{"Speed", "One TCP connection, and a datagram of 64 bytes there and back, each the best of some rounds.", l.showSpeed},
		{"A host is lost", "riga's agent is killed and its cable pulled, while web sends to db and to log.", l.showLost},
		{"Somebody meddles", "Nobody helps: the agents see what the kernel tells them, and put it right.", l.showRepair},
		{"The store is lost", "etcd is stopped, while web sends to db and containers come and go.", l.showStore},
		{"The doctor", "It says what is wrong on a host, why it matters, and what mends it.", l.showDoctor},
		{"All cleaned up", "First the containers, then the network, the agents, the store, the hosts.", l.showLeave},
	}
}

// run shows all steps. An error says that a step could not go on, or that a claim
// did not hold.
func run(w io.Writer, colour bool, bin string, e effort) error {
	if err := prepare(bin); err != nil {
		return err
	}
	l, err := newLab(screen.New(w, colour), e)
	if err != nil {
		return err
	}
	defer l.close()
	l.opening()
	l.play(l.steps()...)
	return l.Summary()
}

// play shows steps, up to the first that cannot go on.
func (l *lab) play(steps ...step) {
	for _, s := range steps {
		l.Step(s.title, s.about)
		if err := s.show(); err != nil {
			l.Stop(err)
			break
		}
	}
}

// prepare finds Berth's programs, and those that it takes a person to look at them.
func prepare(bin string) error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	for _, name := range []string{"berth", "bridge", "vxlan-overlay"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			return fmt.Errorf("find Berth's programs: %w: `make build` makes them", err)
		}
	}
	for _, name := range []string{"etcd", "etcdctl", "ip", "bridge", "nft", "ping", "nsenter"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("look for what the demo runs: %w", err)
		}
	}
	return os.Setenv("BERTH_BIN", bin) // which package sandbox reads
}
