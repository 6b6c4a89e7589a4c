package firewall

import (
	"errors"
	"strings"

	"github.com/berth-cni/berth/pkg/internal/xtables"
	"github.com/coreos/go-iptables/iptables"
)

// text is an iptables rule in words.
type text struct {
	table, chain string
	spec         []string
	first        bool // belongs at the chain's start
}

func (x text) String() string {
	return "-t " + x.table + " -A " + x.chain + " " + strings.Join(x.spec, " ")
}

// exists is false also when the chain does not exist.
func (x text) exists(t *iptables.IPTables) (bool, error) {
	there, err := t.Exists(x.table, x.chain, x.spec...)
	if isGone(err) {
		return false, nil
	}
	return there, err
}

func (x text) ensure(t *iptables.IPTables) error {
	there, err := x.exists(t)
	if err != nil || there {
		return err
	}
	if x.first {
		return t.Insert(x.table, x.chain, 1, x.spec...)
	}
	return t.Append(x.table, x.chain, x.spec...)
}

// deleteTexts deletes rules as often as they are there: two that added one at the
// same time may have added it twice. Absent ones count as deleted.
func deleteTexts(t *iptables.IPTables, all []text) error {
	var errs []error
	for _, x := range all {
		var err error
		for err == nil {
			err = t.Delete(x.table, x.chain, x.spec...)
		}
		if !isGone(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// isGone tells whether iptables missed the rule, its chain or the chain that it
// jumps to.
func isGone(err error) bool {
	var e *iptables.Error
	return errors.As(err, &e) && e.IsNotExist()
}

// ensureIn adds the rules that are not there.
func ensureIn(f xtables.Form, rules []text) error {
	t, err := f.Open()
	if err != nil {
		return err
	}
	for _, x := range rules {
		if err := x.ensure(t); err != nil {
			return err
		}
	}
	return nil
}

// removeFrom deletes the rules that are there.
func removeFrom(f xtables.Form, rules []text) error {
	t, err := f.Open()
	if err != nil {
		return err
	}
	return deleteTexts(t, rules)
}
