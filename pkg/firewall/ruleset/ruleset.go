// Package ruleset looks at what all firewalls of a host hold: the chains of others that
// drop what nobody accepts, and the marks of Berth's own elements and rules. It lists, so
// it is not for the ADD path.
//
// nftables is asked over netlink. Rules that the iptables programs keep only these can
// read in full; they are run where there are any.
package ruleset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
)

// Ruleset is what the host's firewalls hold.
type Ruleset struct {
	// Drops are the chains of others that drop what nobody accepts.
	Drops []Chain
	// Tables are those of nftables that have chains, as nft names them: "inet filter".
	Tables map[string]bool
	// Marks are the comments on our own elements and rules: hashes of records' keys.
	Marks map[string]bool

	saved map[string]bool // families of which iptables-save has to say more
}

// Chain is a base chain of somebody else with the policy drop.
type Chain struct {
	Family, Table, Name, Hook string

	rules    string    // of iptables, one in a line
	accepted *accepted // of another table
}

func (c Chain) String() string {
	return fmt.Sprintf("chain %s of table %s %s", c.Name, c.Family, c.Table)
}

// IsIPTables tells the table that the iptables programs keep.
func (c Chain) IsIPTables() bool {
	return c.Table == "filter" && (c.Family == "ip" || c.Family == "ip6")
}

// Program is the one that changes the table's rules.
func (c Chain) Program() string {
	if c.Family == "ip6" {
		return "ip6tables"
	}
	return "iptables"
}

// V4 tells whether packets of IPv4 pass the chain.
func (c Chain) V4() bool { return c.Family != "ip6" }

// V6 tells whether packets of IPv6 pass the chain.
func (c Chain) V6() bool { return c.Family != "ip" }

// Accepts tells whether a rule of the table looks as if it lets in packets by an
// interface, or for a port; empty and 0 ask for nothing. It accepts, and compares with
// one of these. The rules are not followed: what it says no to may pass, and the other
// way round.
func (c Chain) Accepts(iface string, port int) bool {
	if c.accepted != nil {
		index := 0
		if i, err := net.InterfaceByName(iface); err == nil {
			index = i.Index
		}
		return iface != "" && c.accepted.hasInterface(iface, index) || port != 0 && c.accepted.hasPort(uint16(port))
	}
	for line := range strings.Lines(c.rules) {
		fields := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t\n\",", r) })
		if slices.Contains(fields, "ACCEPT") &&
			(iface != "" && slices.Contains(fields, iface) || port != 0 && slices.Contains(fields, fmt.Sprint(port))) {
			return true
		}
	}
	return false
}

// patience is how long the host's firewall programs may take, all together.
const patience = 3 * time.Second

// List looks at the firewalls of the calling thread's namespace.
func List(ctx context.Context) (*Ruleset, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r := &Ruleset{Tables: map[string]bool{}, Marks: map[string]bool{}, saved: map[string]bool{}}
	err := r.readNFTables()
	return r, errors.Join(err, r.readIPTables(ctx))
}

// readNFTables finds the chains that drop, and the comments in our table.
func (r *Ruleset) readNFTables() error {
	t, err := dial()
	if err != nil {
		return err
	}
	defer t.close()
	chains, err := t.chains()
	for _, c := range chains {
		r.Tables[c.Family+" "+c.Table] = true
		switch {
		case c.Table == firewall.TableName && ownTables[c.family] != nil:
			continue
		case strings.HasPrefix(c.Name, ownChain):
			r.saved[c.Family] = true
		}
		if !c.drops || c.Hook == "" {
			continue
		}
		if c.IsIPTables() {
			r.saved[c.Family] = true // its matches are for iptables alone to read
		} else if c.accepted, err = t.accepting(c.family, c.Table); err != nil {
			return err
		}
		r.Drops = append(r.Drops, c.Chain)
	}
	if err != nil {
		return err
	}
	for family := range ownTables {
		sets, bad := t.sets(family, firewall.TableName)
		err = errors.Join(err, bad)
		for _, set := range sets {
			err = errors.Join(err, t.elements(family, firewall.TableName, set, func(e []byte) {
				if mark := comment(e); mark != "" {
					r.Marks[mark] = true
				}
			}))
		}
	}
	return err
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	var errs bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("%w (Debian's package is iptables)", err)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(errs.Bytes()))
	}
	return string(out), nil
}

// ownChain is how the names of our chains in iptables' tables begin.
const ownChain = "BERTH-"

// readIPTables completes the chains that the iptables programs keep, in either form.
// Where nothing says that there are any, no program is run.
func (r *Ruleset) readIPTables(ctx context.Context) error {
	for _, family := range []struct{ family, program, names string }{
		{"ip", "iptables", "/proc/thread-self/net/ip_tables_names"}, {"ip6", "ip6tables", "/proc/thread-self/net/ip6_tables_names"},
	} {
		if legacy, _ := os.ReadFile(family.names); len(legacy) > 0 { // the kernel's older form
			rules, err := output(ctx, family.program+"-legacy-save")
			if err != nil {
				return err
			}
			r.addSaved(family.family, rules, true)
		}
		if !r.saved[family.family] {
			continue
		}
		rules, err := output(ctx, family.program+"-save")
		if err != nil {
			return err
		}
		r.addSaved(family.family, rules, false)
	}
	return nil
}

// addSaved takes what iptables-save wrote: the comments of our own rules, all rules
// for the chains that drop, and with drops also which those are.
func (r *Ruleset) addSaved(family, rules string, drops bool) {
	table := ""
	for line := range strings.Lines(rules) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "*"); ok {
			table = name
		}
		for chain, hook := range map[string]string{"FORWARD": "forward", "INPUT": "input"} {
			if drops && table == "filter" && strings.HasPrefix(line, ":"+chain+" DROP") {
				r.Drops = append(r.Drops, Chain{Family: family, Table: table, Name: chain, Hook: hook})
			}
		}
		if !strings.HasPrefix(line, "-A "+ownChain) {
			continue
		}
		_, rest, ok := strings.Cut(line, "--comment ")
		if mark, _, _ := strings.Cut(rest, " "); ok && attach.IsHash(mark) {
			r.Marks[mark] = true
		}
	}
	for i := range r.Drops {
		if d := &r.Drops[i]; d.Family == family && d.IsIPTables() && d.rules == "" {
			d.rules = rules
		}
	}
}

// Unrecorded are the marks that none of the records has, sorted.
func (r *Ruleset) Unrecorded(records []*attach.Attachment) []string {
	known := map[string]bool{}
	for _, a := range records {
		known[a.Hash()] = true
	}
	var found []string
	for mark := range r.Marks {
		if !known[mark] && attach.IsHash(mark) {
			found = append(found, mark)
		}
	}
	slices.Sort(found)
	return found
}
