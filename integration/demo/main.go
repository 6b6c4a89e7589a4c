// demo shows Berth on a terminal: what ADD makes, who reaches whom and by which
// address, what a refused port looks like, and that DEL leaves nothing.
//
// Everything happens on a host of its own (package sandbox), with a machine outside
// behind a veth pair. Every tick is the outcome of a comparison; the exit code is 0
// only when all of them held.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/berth-cni/berth/integration/screen"
)

// patience is how long the whole demo may take. It takes a few seconds.
const patience = 60 * time.Second

func main() {
	bin := flag.String("bin", "../bin", "folder of Berth's plugins")
	flag.Parse()
	go screen.Guard(patience)
	err := run(os.Stdout, screen.IsTerminal(os.Stdout), *bin)
	if err != nil && !errors.Is(err, screen.ErrFailed) {
		fmt.Fprintln(os.Stderr, "demo:", err)
	}
	if err != nil {
		os.Exit(1)
	}
}

// run shows all steps. An error says that a step could not go on, or that a claim
// did not hold.
func run(w io.Writer, colour bool, bin string) error {
	bin, err := prepare(bin)
	if err != nil {
		return err
	}
	s := screen.New(w, colour)
	l, err := newLab(s, bin)
	if err != nil {
		return err
	}
	defer l.close()
	l.opening()
	for _, step := range []struct {
		title, about string
		show         func() error
	}{
		{"The network", "One conflist for the whole network. A runtime reads it through libcni.", l.showNetwork},
		{"Three containers", "One ADD for each. The first makes what they share, too: the bridge and the firewall's table.", l.showAdd},
		{"Neighbours", "On one bridge containers see each other, by their own addresses.", l.showNeighbours},
		{"By name", "The network has names. The first ADD has started the agent that answers.", l.showNames},
		{"The way out", "The outside knows no way to the containers: it sees the host, which translates.", l.showOutside},
		{"A published port", "Port 8080 of the host is port 80 of web2.", l.showPublished},
		{"What was made", "Drawn from what the kernel says.", l.showMade},
		{"A port that is taken", "A fourth container, web3, asks for ports that somebody has.", l.showConflict},
		{"A packet that does not arrive", "Somebody's firewall drops it, and berth trace says which rule that is.", l.showTrace},
		{"DEL", "Each one twice. web1's namespace is gone before its DEL: the record is enough.", l.showDel},
	} {
		s.Step(step.title, step.about)
		if err := step.show(); err != nil {
			s.Stop(err)
			break
		}
	}
	return s.Summary()
}

// prepare finds the plugins and the programs that a person would use.
func prepare(bin string) (string, error) {
	if os.Geteuid() != 0 {
		return "", errors.New("network namespaces need root")
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(bin, "bridge")); err != nil {
		return "", fmt.Errorf("find Berth's plugins: %w: `make build` makes them", err)
	}
	for _, name := range []string{"ip", "nft", "curl", "ping", "nsenter", "getent", "unshare"} {
		if _, err := exec.LookPath(name); err != nil {
			return "", fmt.Errorf("look for what the demo runs: %w", err)
		}
	}
	return bin, nil
}
