// Package ruleset looks at what all firewalls of a host hold: the chains of others that
// drop what nobody accepts, and the marks of Berth's own elements and rules. It runs
// nft and iptables-save, so it is not for the ADD path.
package ruleset

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
)

// Ruleset is what the host's firewalls hold, as nft and iptables print it. It takes
// two programs, three more for each chain that drops, whatever the number of
// containers.
type Ruleset struct {
	// Drops are the chains of others that drop what nobody accepts.
	Drops []Chain
	// Marks are the comments on our own elements and rules: hashes of records' keys.
	Marks map[string]bool

	saved map[string]bool // families of which iptables-save has to say more
}

// Chain is a base chain of somebody else with the policy drop.
type Chain struct {
	Family, Table, Name, Hook string
	// Rules are those of its table, one in a line.
	Rules string
}

func (d Chain) String() string {
	return fmt.Sprintf("chain %s of table %s %s", d.Name, d.Family, d.Table)
}

// IsIPTables tells the table that the iptables programs keep.
func (d Chain) IsIPTables() bool {
	return d.Table == "filter" && (d.Family == "ip" || d.Family == "ip6")
}

// Program is the one that changes the table's rules.
func (d Chain) Program() string {
	if d.Family == "ip6" {
		return "ip6tables"
	}
	return "iptables"
}

// V4 tells which families pass the chain.
func (d Chain) V4() bool { return d.Family != "ip6" }
func (d Chain) V6() bool { return d.Family != "ip" }

// Accepts tells whether a rule of the table looks as if it lets something in: it
// accepts, and has one of these words. It does not follow the rules: what it says no
// to may pass, and the other way round.
func (d Chain) Accepts(words ...string) bool {
	for line := range strings.Lines(d.Rules) {
		fields := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t\n\",{}:", r) })
		if !slices.Contains(fields, "accept") && !slices.Contains(fields, "ACCEPT") {
			continue
		}
		if slices.ContainsFunc(words, func(w string) bool { return slices.Contains(fields, w) }) {
			return true
		}
	}
	return false
}

// patience is how long the host's firewall programs may take, all together.
const patience = 3 * time.Second

// ErrNoPrograms: there is nothing to look with.
var ErrNoPrograms = errors.New("neither nft nor iptables-save is installed (Debian's packages are nftables and iptables)")

// Listing is what nft and iptables are asked for, from its start on.
type Listing struct {
	ctx           context.Context
	cancel        func()
	chains, table *running // nil: there is no nft
	noSave        bool     // there is no iptables-save
}

// Start starts to look, so that other things can be looked at beside it.
func Start(ctx context.Context) *Listing {
	l := &Listing{}
	l.ctx, l.cancel = context.WithTimeout(ctx, patience)
	if _, err := exec.LookPath("nft"); err == nil {
		l.chains = start(l.ctx, "nft", "-j", "list", "chains")
		l.table = start(l.ctx, "nft", "-j", "list", "table", "inet", firewall.TableName)
	}
	_, err := exec.LookPath("iptables-save")
	l.noSave = err != nil
	return l
}

// Wait waits for what was found.
func (l *Listing) Wait() (*Ruleset, error) {
	defer l.cancel()
	f := &Ruleset{Marks: map[string]bool{}, saved: map[string]bool{}}
	if l.chains == nil && l.noSave {
		return nil, ErrNoPrograms
	}
	var err error
	if l.chains != nil {
		err = f.readNFT(l)
	}
	if !l.noSave {
		err = errors.Join(err, f.readIPTables(l.ctx, l.chains == nil))
	}
	return f, err
}

func List(ctx context.Context) (*Ruleset, error) { return Start(ctx).Wait() }

// running is a program that has been started.
type running struct {
	cmd         *exec.Cmd
	out, errors bytes.Buffer
	err         error
}

func start(ctx context.Context, name string, args ...string) *running {
	r := &running{cmd: exec.CommandContext(ctx, name, args...)}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.errors
	r.err = r.cmd.Start()
	return r
}

// wait returns what the program wrote.
func (r *running) wait() ([]byte, error) {
	if r.err == nil {
		r.err = r.cmd.Wait()
	}
	if r.err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(r.cmd.Args, " "), r.err, bytes.TrimSpace(r.errors.Bytes()))
	}
	return r.out.Bytes(), nil
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := start(ctx, name, args...).wait()
	return string(out), err
}

// nftObject is what nft -j lists, as far as it matters here (libnftables-json(5)).
type nftObject struct {
	Chain *struct{ Family, Table, Name, Hook, Policy string }
	Set   *nftSet
	Map   *nftSet
}

type nftSet struct {
	Elem json.RawMessage
}

// readNFT finds the chains that drop, and the comments in our table.
func (f *Ruleset) readNFT(l *Listing) error {
	table, errTable := l.table.objects() // fails where there is none
	chains, err := l.chains.objects()
	if err != nil {
		return err
	}
	ours := false
	for _, o := range chains {
		c := o.Chain
		if c == nil {
			continue
		}
		if c.Table == firewall.TableName && c.Family == "inet" {
			ours = true
			continue
		}
		if strings.HasPrefix(c.Name, ownChain) {
			f.saved[c.Family] = true
		}
		if c.Policy != "drop" || c.Hook != "forward" && c.Hook != "input" || c.Family == "bridge" || c.Family == "netdev" || c.Family == "arp" {
			continue
		}
		f.Drops = append(f.Drops, Chain{Family: c.Family, Table: c.Table, Name: c.Name, Hook: c.Hook})
	}
	for i := range f.Drops {
		d := &f.Drops[i]
		if d.IsIPTables() {
			f.saved[d.Family] = true // nft does not show all of what iptables writes
			continue
		}
		if d.Rules, err = output(l.ctx, "nft", "list", "table", d.Family, d.Table); err != nil {
			return err
		}
	}
	if !ours {
		return nil
	}
	if errTable != nil {
		return errTable
	}
	for _, o := range table {
		for _, s := range []*nftSet{o.Set, o.Map} {
			if s != nil {
				f.addComments(s.Elem)
			}
		}
	}
	return nil
}

// objects are what nft lists.
func (r *running) objects() ([]nftObject, error) {
	out, err := r.wait()
	if err != nil {
		return nil, err
	}
	var list struct{ NFTables []nftObject }
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("decode what nft lists: %w", err)
	}
	return list.NFTables, nil
}

// addComments finds the comments on elements: of a set {"elem": {"val", "comment"}},
// of a map a pair of that and the value.
func (f *Ruleset) addComments(raw json.RawMessage) {
	var all []json.RawMessage
	if json.Unmarshal(raw, &all) != nil {
		return
	}
	for _, e := range all {
		var pair []json.RawMessage
		if json.Unmarshal(e, &pair) == nil && len(pair) == 2 {
			e = pair[0]
		}
		var o struct{ Elem struct{ Comment string } }
		if json.Unmarshal(e, &o) == nil && o.Elem.Comment != "" {
			f.Marks[o.Elem.Comment] = true
		}
	}
}

// ownChain is how the names of our chains in iptables' tables begin.
const ownChain = "BERTH-"

// readIPTables completes the chains that the iptables programs keep, in either form.
// Where nothing says that there are any, no program is run.
func (f *Ruleset) readIPTables(ctx context.Context, noNFT bool) error {
	for _, family := range []struct{ family, program, names string }{
		{"ip", "iptables", "/proc/thread-self/net/ip_tables_names"}, {"ip6", "ip6tables", "/proc/thread-self/net/ip6_tables_names"},
	} {
		if legacy, _ := os.ReadFile(family.names); len(legacy) > 0 { // the kernel's older form
			rules, err := output(ctx, family.program+"-legacy-save")
			if err != nil {
				return err
			}
			f.addSaved(family.family, rules, true)
		}
		if !noNFT && !f.saved[family.family] {
			continue
		}
		rules, err := output(ctx, family.program+"-save")
		if err != nil {
			return err
		}
		f.addSaved(family.family, rules, noNFT)
	}
	return nil
}

// addSaved takes what iptables-save wrote: the comments of our own rules, all rules
// for the chains that drop, and with drops also which those are.
func (f *Ruleset) addSaved(family, rules string, drops bool) {
	table := ""
	for line := range strings.Lines(rules) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "*"); ok {
			table = name
		}
		for chain, hook := range map[string]string{"FORWARD": "forward", "INPUT": "input"} {
			if drops && table == "filter" && strings.HasPrefix(line, ":"+chain+" DROP") {
				f.Drops = append(f.Drops, Chain{Family: family, Table: table, Name: chain, Hook: hook})
			}
		}
		if !strings.HasPrefix(line, "-A "+ownChain) {
			continue
		}
		_, rest, ok := strings.Cut(line, "--comment ")
		if mark, _, _ := strings.Cut(rest, " "); ok && attach.IsHash(mark) {
			f.Marks[mark] = true
		}
	}
	for i := range f.Drops {
		if d := &f.Drops[i]; d.Family == family && d.IsIPTables() && d.Rules == "" {
			d.Rules = rules
		}
	}
}

// Unrecorded are the marks that none of the records has, sorted.
func (f *Ruleset) Unrecorded(records []*attach.Attachment) []string {
	known := map[string]bool{}
	for _, a := range records {
		known[a.Hash()] = true
	}
	var found []string
	for mark := range f.Marks {
		if !known[mark] && attach.IsHash(mark) {
			found = append(found, mark)
		}
	}
	slices.Sort(found)
	return found
}
