package reference

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"github.com/berth-cni/berth/pkg/internal/xtables"
	"github.com/coreos/go-iptables/iptables"
)

// iptRule is a rule of iptables that leads to a chain of the container's own.
type iptRule struct {
	form  xtables.Form
	chain string   // where it is
	spec  []string // as iptables -S writes it, without -A and the chain
	whose Owner
}

// Where the reference's rules are, all in the table nat: its masquerade, and portmap's ports.
const (
	masqFrom = "POSTROUTING"
	portFrom = "CNI-HOSTPORT-DNAT"
)

func (r *iptRule) owner() Owner { return r.whose }

func (r *iptRule) where() string { return fmt.Sprintf("%s nat %s", r.form, r.target()) }

// target is the chain that the rule leads to: "CNI-" and a hash.
func (r *iptRule) target() string {
	if i := slices.Index(r.spec, "-j"); i >= 0 && i+1 < len(r.spec) {
		return r.spec[i+1]
	}
	return ""
}

// iptRules lists those of all containers, or of one (whose ID
// comments name). A program runs only where the kernel has such rules.
func iptRules(ctx context.Context, s *nftnl.Socket, container *string) (all []rule, err error) {
	for _, f := range xtables.Forms {
		if ctx.Err() != nil {
			return all, errors.Join(err, ctx.Err())
		}
		text := `id: "`
		if container != nil {
			text += *container
		}
		n, bad := f.Mentions(s, "nat", masqFrom, text)
		ports, worse := f.Mentions(s, "nat", portFrom, text)
		if err = errors.Join(err, bad, worse); bad != nil || worse != nil || n+ports == 0 {
			continue
		}
		t, bad := f.Open()
		if bad != nil {
			err = errors.Join(err, bad)
			continue
		}
		for _, chain := range []string{masqFrom, portFrom} {
			found, bad := readChain(f, t, chain)
			all, err = append(all, found...), errors.Join(err, bad)
		}
	}
	return all, err
}

// readChain lists the rules of a chain that lead to a container's own.
func readChain(f xtables.Form, t *iptables.IPTables, chain string) (all []rule, err error) {
	there, err := t.ChainExists("nat", chain)
	if err != nil || !there {
		return nil, err
	}
	lines, err := t.List("nat", chain)
	for _, line := range lines {
		w := splitRule(line)
		if len(w) < 2 || w[0] != "-A" {
			continue
		}
		r := &iptRule{form: f, chain: chain, spec: w[2:]}
		i := slices.Index(r.spec, "--comment")
		if i < 0 || i+1 >= len(r.spec) || !strings.HasPrefix(r.target(), "CNI-") {
			continue
		}
		if owner, ok := textOwner(r.spec[i+1]); ok {
			r.whose = owner
			all = append(all, r)
		}
	}
	return all, err
}

// textOwner reads `name: "NETWORK" id: "CONTAINER"`, which portmap puts "dnat " before.
func textOwner(comment string) (o Owner, ok bool) {
	_, rest, ok := strings.Cut(comment, `name: `)
	if !ok {
		return o, false
	}
	name, err := strconv.QuotedPrefix(rest)
	if err != nil {
		return o, false
	}
	id, err := strconv.QuotedPrefix(strings.TrimPrefix(rest[len(name):], " id: "))
	if err != nil {
		return o, false
	}
	o.Network, err = strconv.Unquote(name)
	o.Container, _ = strconv.Unquote(id)
	return o, err == nil && o.Container != ""
}

// splitRule splits a line of iptables -S into words. A word in quotes has backslashes
// before quotes and backslashes.
func splitRule(line string) (words []string) {
	var word strings.Builder
	quoted, any := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			quoted, any = !quoted, true
		case c == '\\' && quoted && i+1 < len(line):
			i++
			word.WriteByte(line[i])
		case c == ' ' && !quoted:
			if word.Len() > 0 || any {
				words = append(words, word.String())
			}
			word.Reset()
			any = false
		default:
			word.WriteByte(c)
		}
	}
	if word.Len() > 0 || any {
		words = append(words, word.String())
	}
	return words
}

// remove deletes the rule and the chain that it leads to. What is gone counts as removed.
func (r *iptRule) remove() error {
	t, err := r.form.Open()
	if err != nil {
		return err
	}
	return errors.Join(
		absentIsFine(t.Delete("nat", r.chain, r.spec...)),
		absentIsFine(t.ClearChain("nat", r.target())), // makes one that is not there
		absentIsFine(t.DeleteChain("nat", r.target())))
}

func absentIsFine(err error) error {
	var e *iptables.Error
	if errors.As(err, &e) && e.IsNotExist() {
		return nil
	}
	return err
}
