package xtables

import (
	"errors"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"
)

// Rule is an iptables rule in words.
type Rule struct {
	Table, Chain string
	Spec         []string
	First        bool // belongs at the chain's start
}

func (x Rule) String() string {
	return "-t " + x.Table + " -A " + x.Chain + " " + strings.Join(x.Spec, " ")
}

// Exists is false also when the chain does not exist.
func (x Rule) Exists(t *iptables.IPTables) (bool, error) {
	there, err := t.Exists(x.Table, x.Chain, x.Spec...)
	if isGone(err) {
		return false, nil
	}
	return there, err
}

// Ensure adds the rule if it is not there.
func (x Rule) Ensure(t *iptables.IPTables) error {
	there, err := x.Exists(t)
	if err != nil || there {
		return err
	}
	if x.First {
		return t.Insert(x.Table, x.Chain, 1, x.Spec...)
	}
	return t.Append(x.Table, x.Chain, x.Spec...)
}

// DeleteRules deletes rules as often as they are there: two that added one at the
// same time may have added it twice. Absent ones count as deleted.
func DeleteRules(t *iptables.IPTables, all []Rule) error {
	var errs []error
	for _, x := range all {
		var err error
		for err == nil {
			err = t.Delete(x.Table, x.Chain, x.Spec...)
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

// EnsureIn adds the rules that are not there.
func EnsureIn(f Form, rules []Rule) error {
	t, err := f.Open()
	if err != nil {
		return err
	}
	for _, x := range rules {
		if err := x.Ensure(t); err != nil {
			return err
		}
	}
	return nil
}

// RemoveFrom deletes the rules that are there.
func RemoveFrom(f Form, rules []Rule) error {
	t, err := f.Open()
	if err != nil {
		return err
	}
	return DeleteRules(t, rules)
}

// Lacking returns those of all that the others do not have.
func Lacking(all, others []Rule) []Rule {
	have := map[string]bool{}
	for _, x := range others {
		have[x.String()] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(x Rule) bool { return have[x.String()] })
}
