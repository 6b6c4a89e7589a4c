package packages

import (
	"go/ast"
	"go/constant"
	"go/types"
	"strings"
)

// lists are the lists of words that an expression can be.
func (e *evaluation) lists(x expr, deep int) [][]string {
	if deep++; deep > deepest {
		return [][]string{{unknown}}
	}
	switch n := x.Expr.(type) {
	case *ast.ParenExpr:
		return e.lists(expr{n.X, x.pkg}, deep)
	case *ast.CompositeLit:
		all := [][]string{nil}
		for _, elt := range n.Elts {
			if kv, ok := elt.(*ast.KeyValueExpr); ok {
				elt = kv.Value
			}
			all = product(all, single(e.strings(expr{elt, x.pkg}, deep)))
		}
		return all
	case *ast.SliceExpr:
		return e.sliced(n, x.pkg, deep)
	case *ast.CallExpr:
		return e.calledList(n, x.pkg, deep)
	case *ast.Ident, *ast.SelectorExpr:
		return e.listed(x, deep)
	case *ast.IndexExpr:
		return e.rows(value{expr{n.X, x.pkg}, element}, deep)
	}
	return [][]string{{unknown}}
}

// listed are the lists of a variable.
func (e *evaluation) listed(x expr, deep int) [][]string {
	o := variable(x.pkg, x.Expr)
	if o == nil {
		return [][]string{nil} // nil
	}
	at := place(x.pkg, o)
	if e.within[at] {
		return nil // x = append(x, ...): the other values are what it can be
	}
	e.within[at] = true
	defer delete(e.within, at)
	if p, ok := e.params[at]; ok {
		args, bound := e.argument(p)
		switch {
		case !bound:
			return [][]string{{open(p.function)}}
		case p.variadic:
			return e.arguments(args, e.calls[p.function].dots, deep)
		case len(args) == 1:
			return e.lists(args[0], deep)
		}
		return [][]string{{unknown}}
	}
	var all [][]string
	for _, v := range e.values[at] {
		if v.part == whole {
			all = append(all, e.lists(v.expr, deep)...)
			continue
		}
		all = append(all, e.rows(v, deep)...)
	}
	if all == nil {
		return [][]string{{unknown}}
	}
	return all[:min(len(all), most)]
}

// rows are the lists in a slice or a map of lists.
func (e *evaluation) rows(v value, deep int) [][]string {
	var all [][]string
	for _, lit := range e.literals(v.expr, deep) {
		for _, elt := range lit.Expr.(*ast.CompositeLit).Elts {
			if kv, ok := elt.(*ast.KeyValueExpr); ok {
				elt = kv.Value
			}
			all = append(all, e.lists(expr{elt, lit.pkg}, deep)...)
		}
	}
	return all
}

// literals are the composite literals that an expression can be.
func (e *evaluation) literals(x expr, deep int) (all []expr) {
	if deep++; deep > deepest {
		return nil
	}
	switch n := x.Expr.(type) {
	case *ast.CompositeLit:
		return []expr{x}
	case *ast.Ident, *ast.SelectorExpr:
		if o := variable(x.pkg, n); o != nil {
			for _, v := range e.values[place(x.pkg, o)] {
				if v.part == whole {
					all = append(all, e.literals(v.expr, deep)...)
				}
			}
		}
	}
	return all
}

// sliced are the lists of x[low:], without the low that is a constant.
func (e *evaluation) sliced(n *ast.SliceExpr, p pkg, deep int) [][]string {
	low := 0
	if n.Low != nil {
		if v := p.TypesInfo.Types[n.Low].Value; v != nil {
			i, _ := constant.Int64Val(v)
			low = int(i)
		}
	}
	var all [][]string
	for _, l := range e.lists(expr{n.X, p}, deep) {
		all = append(all, l[min(low, len(l)):])
	}
	return all
}

// calledList are the lists that a call returns.
func (e *evaluation) calledList(n *ast.CallExpr, p pkg, deep int) [][]string {
	switch name(n, p) {
	case "append":
		var args []expr
		for _, a := range n.Args[1:] {
			args = append(args, expr{a, p})
		}
		return product(e.lists(expr{n.Args[0], p}, deep), e.arguments(args, n.Ellipsis.IsValid(), deep))
	case "slices.Concat":
		all := [][]string{nil}
		for _, a := range n.Args {
			all = product(all, e.lists(expr{a, p}, deep))
		}
		return all
	case "strings.Fields", "strings.Split":
		var all [][]string
		for _, text := range e.strings(expr{n.Args[0], p}, deep) {
			all = append(all, strings.Fields(text))
		}
		return all
	}
	if _, conversion := p.TypesInfo.TypeOf(n.Fun).Underlying().(*types.Slice); conversion {
		return e.lists(expr{n.Args[0], p}, deep)
	}
	return [][]string{{unknown}}
}
