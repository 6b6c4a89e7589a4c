package packages

import (
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"regexp"
	"slices"
	"strings"
)

const (
	unknown = "\x00" // stands for a text that only a run can tell
	most    = 200    // alternatives that are followed, of one expression
	deepest = 40     // expressions within one another
)

// programs finds those that a site runs, each with the site that has decided it: where
// the name of a program comes from a function's parameter, its calls decide.
func (s *source) programs(at site, found func(program string, by site)) {
	s.follow(at, at, nil, map[string]*site{}, found)
}

// follow reads a site's command lines, by the calls that lead to it. seen are the programs
// that were decided before the last of them.
func (s *source) follow(at, by site, seen []string, calls map[string]*site, found func(string, site)) {
	e := &evaluation{source: s, calls: calls, within: map[string]bool{}}
	r := reader{}
	for _, words := range e.arguments(at.args, at.dots, 0) {
		r.line(words)
	}
	for _, p := range r.programs {
		if !slices.Contains(seen, p) {
			found(p, by)
		}
	}
	if r.open == "" {
		return
	}
	for _, c := range slices.Concat(s.calls[r.open], s.calls[s.method[r.open]]) {
		if s.method[r.open] == field && isTest(by) && !(isTest(c) && by.pkg.PkgPath == c.pkg.PkgPath) {
			continue // the product's text, which a test runs as it is
		}
		calls[r.open] = &c
		s.follow(at, c, r.programs, calls, found)
	}
	delete(calls, r.open)
}

// field is the method of what is no function.
const field = "field"

func isTest(s site) bool { return strings.HasSuffix(s.file, "_test.go") }

// evaluation says what expressions can be under some calls. A parameter of another
// function is the text of open.
type evaluation struct {
	*source
	calls  map[string]*site
	within map[string]bool // variables that are being evaluated
}

// open stands for a parameter of a function.
func open(function string) string { return "\x01" + function + "\x02" }

// arguments are the lists of words that a call's arguments can be.
func (e *evaluation) arguments(args []expr, dots bool, deep int) [][]string {
	all := [][]string{nil}
	for i, a := range args {
		if dots && i == len(args)-1 {
			all = product(all, e.lists(a, deep))
			continue
		}
		all = product(all, single(e.strings(a, deep)))
	}
	return all
}

// strings are the texts that an expression can be.
func (e *evaluation) strings(x expr, deep int) []string {
	if v := x.pkg.TypesInfo.Types[x.Expr].Value; v != nil && v.Kind() == constant.String {
		return []string{constant.StringVal(v)}
	}
	if deep++; deep > deepest {
		return []string{unknown}
	}
	switch n := x.Expr.(type) {
	case *ast.ParenExpr:
		return e.strings(expr{n.X, x.pkg}, deep)
	case *ast.BinaryExpr:
		if n.Op == token.ADD {
			return joined(product(single(e.strings(expr{n.X, x.pkg}, deep)), single(e.strings(expr{n.Y, x.pkg}, deep))), "")
		}
	case *ast.IndexExpr:
		return e.indexed(n, x.pkg, deep)
	case *ast.CallExpr:
		return e.called(n, x.pkg, deep)
	case *ast.Ident, *ast.SelectorExpr:
		o := variable(x.pkg, n)
		if o == nil {
			break
		}
		at := place(x.pkg, o)
		if e.within[at] {
			break
		}
		e.within[at] = true
		defer delete(e.within, at)
		if p, ok := e.params[at]; ok {
			args, bound := e.argument(p)
			if !bound {
				return []string{open(p.function)}
			}
			if len(args) != 1 {
				break
			}
			return e.strings(args[0], deep)
		}
		var all []string
		for _, v := range e.values[at] {
			if v.part == whole {
				all = append(all, e.strings(v.expr, deep)...)
				continue
			}
			all = append(all, e.members(v, deep)...)
		}
		if all != nil {
			return compact(all)
		}
	}
	return []string{unknown}
}

// argument is what a parameter is in the call that is followed, if one of its function is.
func (e *evaluation) argument(p param) (args []expr, bound bool) {
	c, bound := e.calls[p.function]
	switch {
	case !bound || p.index >= len(c.args):
		return nil, bound
	case p.variadic:
		return c.args[p.index:], true
	}
	return c.args[p.index : p.index+1], true
}

// members are the texts in a slice, an array, a map, or what an iterator yields.
func (e *evaluation) members(v value, deep int) []string {
	if call, ok := v.Expr.(*ast.CallExpr); ok {
		switch name(call, v.pkg) {
		case "strings.Lines", "strings.SplitSeq":
			var all []string
			for _, text := range e.strings(expr{call.Args[0], v.pkg}, deep) {
				all = append(all, strings.Split(text, separator(call, v.pkg))...)
			}
			return all
		}
	}
	if v.part == element {
		return slices.Concat(e.lists(v.expr, deep)...)
	}
	var all []string
	for _, lit := range e.literals(v.expr, deep) {
		for _, elt := range lit.Expr.(*ast.CompositeLit).Elts {
			if kv, ok := elt.(*ast.KeyValueExpr); ok {
				all = append(all, e.strings(expr{kv.Key, lit.pkg}, deep)...)
			}
		}
	}
	return all
}

func separator(call *ast.CallExpr, p pkg) string {
	if len(call.Args) > 1 {
		if v := p.TypesInfo.Types[call.Args[1]].Value; v != nil {
			return constant.StringVal(v)
		}
	}
	return "\n"
}

// indexed are the texts of slice[i] and of map[k].
func (e *evaluation) indexed(n *ast.IndexExpr, p pkg, deep int) []string {
	i := -1
	if v := p.TypesInfo.Types[n.Index].Value; v != nil {
		if n, exact := constant.Int64Val(constant.ToInt(v)); exact {
			i = int(n)
		}
	}
	var all []string
	for _, l := range e.lists(expr{n.X, p}, deep) {
		switch {
		case i < 0:
			all = append(all, l...)
		case i < len(l):
			all = append(all, l[i])
		}
	}
	if all == nil {
		all = []string{unknown}
	}
	return compact(all)
}

// called are the texts that a call returns, of functions of the standard library.
func (e *evaluation) called(n *ast.CallExpr, p pkg, deep int) []string {
	if len(n.Args) == 0 {
		return []string{unknown}
	}
	first := func() []string { return e.strings(expr{n.Args[0], p}, deep) }
	switch name(n, p) {
	case "fmt.Sprintf":
		return e.formatted(first(), n.Args[1:], p, deep)
	case "strings.TrimSpace", "strings.ReplaceAll":
		return first()
	case "strings.Join":
		return joined(e.lists(expr{n.Args[0], p}, deep), e.strings(expr{n.Args[1], p}, deep)[0])
	}
	return []string{unknown}
}

var verb = regexp.MustCompile(`%[-+# 0-9.]*[a-zA-Z%]`)

// formatted are the texts of fmt.Sprintf: its strings in their places.
func (e *evaluation) formatted(formats []string, args []ast.Expr, p pkg, deep int) (all []string) {
	for _, f := range formats {
		parts := [][]string{nil}
		at, rest := 0, args
		for _, v := range verb.FindAllStringIndex(f, -1) {
			parts = product(parts, single([]string{f[at:v[0]]}))
			if at = v[1]; f[at-1] == '%' || len(rest) == 0 {
				continue
			}
			parts = product(parts, single(e.strings(expr{rest[0], p}, deep)))
			rest = rest[1:]
		}
		all = append(all, joined(product(parts, single([]string{f[at:]})), "")...)
	}
	return all
}

// name is a function's, with its package: "append", "strings.Fields".
func name(n *ast.CallExpr, p pkg) string {
	switch f := n.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		if o, ok := p.TypesInfo.Uses[f.Sel].(*types.Func); ok {
			return o.FullName()
		}
	}
	return ""
}

// product has every list of a before every one of b.
func product(a, b [][]string) [][]string {
	var all [][]string
	for _, x := range a {
		for _, y := range b {
			if len(all) < most {
				all = append(all, slices.Concat(x, y))
			}
		}
	}
	return all
}

func single(texts []string) (lists [][]string) {
	for _, t := range texts {
		lists = append(lists, []string{t})
	}
	return lists
}

func joined(lists [][]string, by string) (texts []string) {
	for _, l := range lists {
		texts = append(texts, strings.Join(l, by))
	}
	return texts
}

func compact(texts []string) []string {
	slices.Sort(texts)
	texts = slices.Compact(texts)
	return texts[:min(len(texts), most)]
}
