package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// output runs a program in the calling thread's namespaces.
func output(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, exit.Stderr)
	}
	return string(out), err
}

// nftables lists every object of the ruleset, and every element of its sets and
// maps, one a line.
func nftables() ([]string, error) {
	out, err := output("nft", "-j", "-s", "list", "ruleset")
	if err != nil || out == "" {
		return nil, err
	}
	var ruleset struct {
		Nftables []map[string]map[string]any `json:"nftables"`
	}
	if err := json.Unmarshal([]byte(out), &ruleset); err != nil {
		return nil, err
	}
	var lines []string
	for _, object := range ruleset.Nftables {
		for kind, o := range object {
			if kind == "metainfo" {
				continue
			}
			delete(o, "handle")
			elements, _ := o["elem"].([]any)
			delete(o, "elem")
			data, err := json.Marshal(o)
			if err != nil {
				return nil, err
			}
			lines = append(lines, kind+" "+string(data))
			for _, e := range elements {
				if data, err = json.Marshal(e); err != nil {
					return nil, err
				}
				lines = append(lines, fmt.Sprintf("element of %v %v: %s", o["table"], o["name"], data))
			}
		}
	}
	return lines, nil
}

var counter = regexp.MustCompile(`\[\d+:\d+\]`)

// iptables lists the rules of the old backend; those of the new one are in
// [nftables].
func iptables(save string) func() ([]string, error) {
	return func() ([]string, error) {
		out, err := output(save)
		if err != nil {
			return nil, err
		}
		var lines []string
		table := ""
		for line := range strings.Lines(out) {
			line = strings.TrimSpace(counter.ReplaceAllString(line, ""))
			if t, ok := strings.CutPrefix(line, "*"); ok {
				table = t
			} else if line != "" && line != "COMMIT" && line[0] != '#' {
				lines = append(lines, table+" "+line)
			}
		}
		return lines, nil
	}
}

var flow = regexp.MustCompile(`^(tcp|udp|sctp) +\d+ +\d+ `)

// conntrack lists the flows of the transport protocols, without their time left.
func conntrack() ([]string, error) {
	all, err := program("conntrack", "-L")()
	var lines []string
	for _, l := range all {
		if flow.MatchString(l) {
			lines = append(lines, flow.ReplaceAllString(l, "$1 "))
		}
	}
	return lines, err
}

// StateDir is where Berth keeps its state on a host.
const StateDir = "/run/berth"

// stateKeys lists the keys of Berth's store: "bucket key".
func stateKeys() ([]string, error) {
	path := filepath.Join(StateDir, "berth.db")
	if _, err := os.Stat(path); err != nil {
		return nil, nil
	}
	lock, err := os.OpenFile(filepath.Join(StateDir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	for err = syscall.EINTR; err == syscall.EINTR; {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_SH)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the state: %w", err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	var lines []string
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(bucket []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, _ []byte) error {
				lines = append(lines, fmt.Sprintf("%s %q", bucket, k))
				return nil
			})
		})
	})
	return lines, err
}
