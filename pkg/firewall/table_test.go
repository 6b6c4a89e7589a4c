package firewall

import (
	"slices"
	"testing"

	"github.com/google/nftables/expr"
)

// TestPublishUsers: the kernel counts the rules of a chain and the jumps to it as its
// users, and the number that a whole table has is that of the table.
func TestPublishUsers(t *testing.T) {
	rules, jumps := 0, 0
	for _, c := range chains() {
		if c.Name == publish {
			rules = len(c.Rules)
			if c.Jumps != publishUsers-rules {
				t.Errorf("chain %s is said to have %d jumps, and publishUsers counts %d", publish, c.Jumps, publishUsers-rules)
			}
		}
		for _, r := range c.Rules {
			if slices.ContainsFunc(r, func(e expr.Any) bool {
				v, ok := e.(*expr.Verdict)
				return ok && v.Kind == expr.VerdictJump && v.Chain == publish
			}) {
				jumps++
			}
		}
	}
	if rules == 0 || rules+jumps != publishUsers {
		t.Errorf("%d rules and %d jumps, and publishUsers is %d", rules, jumps, publishUsers)
	}
}
