package packages

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"strconv"
	"testing"

	"golang.org/x/tools/go/packages"
)

// source is a module's typed syntax, with its tests, and what it takes to say which
// values an expression can have. Functions, variables and fields go by the place of their
// declaration: a package and its variant for tests have objects of their own for one text.
type source struct {
	pkgs   []pkg
	seen   map[string]bool    // positions of calls and literals: of one package and its variant for tests
	execs  []site             // what starts a program, or looks for one
	calls  map[string][]site  // by function, or by name and signature of an interface's method
	values map[string][]value // by variable or field: what it is assigned
	params map[string]param   // by variable
	method map[string]string  // by function: name and signature; by field: [field]
}

type pkg = *packages.Package

// expr is an expression, and the package whose types it is read with.
type expr struct {
	ast.Expr
	pkg pkg
}

// site is a call, or a literal of exec.Cmd.
type site struct {
	args []expr
	dots bool // the last argument is args...
	pkg  pkg
	file string
}

// value is an expression that a variable has, or whose elements or keys it has.
type value struct {
	expr
	part part
}

type part int

const (
	whole part = iota
	element
	key
)

// param is a parameter's function and index.
type param struct {
	function string
	index    int
	variadic bool
}

func load(t *testing.T, dir string) *source {
	t.Helper()
	pkgs, err := packages.Load(&packages.Config{Dir: dir, Tests: true, Mode: packages.NeedName | packages.NeedFiles | packages.NeedImports |
		packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo | packages.NeedForTest}, "./...")
	if err != nil {
		t.Fatalf("load %s: %v", dir, err)
	}
	s := &source{pkgs: pkgs, seen: map[string]bool{}, calls: map[string][]site{}, values: map[string][]value{}, params: map[string]param{}, method: map[string]string{}}
	for _, p := range pkgs {
		for _, e := range p.Errors {
			t.Errorf("load %s: %v", p.ID, e)
		}
		for _, f := range p.Syntax {
			ast.Inspect(f, func(n ast.Node) bool { s.note(p, n); return true })
		}
	}
	return s
}

// note takes down what a node declares, assigns or calls.
func (s *source) note(p pkg, n ast.Node) {
	switch n := n.(type) {
	case *ast.FuncDecl:
		f := p.TypesInfo.Defs[n.Name].(*types.Func)
		s.parameters(p, n.Type, place(p, f))
		if n.Recv != nil {
			s.method[place(p, f)] = signature(f)
		}
	case *ast.AssignStmt:
		for i, l := range n.Lhs {
			if len(n.Rhs) == len(n.Lhs) && n.Tok != token.ADD_ASSIGN { // which adds words at the end
				s.assign(p, variable(p, l), n.Rhs[i], whole)
			}
		}
	case *ast.ValueSpec:
		for i, v := range n.Values {
			if len(n.Values) == len(n.Names) {
				s.assign(p, variable(p, n.Names[i]), v, whole)
			}
		}
	case *ast.RangeStmt:
		if _, iterator := p.TypesInfo.TypeOf(n.X).Underlying().(*types.Signature); iterator {
			s.assign(p, variable(p, n.Key), n.X, element)
			return
		}
		s.assign(p, variable(p, n.Key), n.X, key)
		s.assign(p, variable(p, n.Value), n.X, element)
	case *ast.CompositeLit:
		s.literal(p, n)
	case *ast.CallExpr:
		s.call(p, n)
	}
}

// parameters takes down those of a function, by whose name or variable it is called.
func (s *source) parameters(p pkg, t *ast.FuncType, function string) {
	i := 0
	for _, field := range t.Params.List {
		_, variadic := field.Type.(*ast.Ellipsis)
		for _, name := range field.Names {
			if o := p.TypesInfo.Defs[name]; o != nil {
				s.params[place(p, o)] = param{function, i, variadic}
			}
			i++
		}
	}
}

func (s *source) assign(p pkg, to types.Object, e ast.Expr, part part) {
	if to == nil {
		return
	}
	at := place(p, to)
	s.values[at] = append(s.values[at], value{expr{e, p}, part})
	if v, ok := to.(*types.Var); ok && v.IsField() && !s.again(p, e) {
		s.params[at], s.method[at] = param{function: at}, field // as if what assigns it called it
		s.calls[at] = append(s.calls[at], site{args: []expr{{e, p}}, pkg: p, file: p.Fset.Position(e.Pos()).Filename})
	}
	if f, ok := e.(*ast.FuncLit); ok {
		s.parameters(p, f.Type, at)
	}
}

// literal assigns the fields of a struct.
func (s *source) literal(p pkg, n *ast.CompositeLit) {
	if s.again(p, n) {
		return
	}
	t := p.TypesInfo.TypeOf(n)
	if pointer, ok := t.Underlying().(*types.Pointer); ok {
		t = pointer.Elem()
	}
	fields, ok := t.Underlying().(*types.Struct)
	if !ok {
		return
	}
	for i, e := range n.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			s.assign(p, p.TypesInfo.Uses[kv.Key.(*ast.Ident)], kv.Value, whole)
			if t.String() == "os/exec.Cmd" && kv.Key.(*ast.Ident).Name == "Args" {
				s.execs = append(s.execs, site{args: []expr{{kv.Value, p}}, dots: true, pkg: p, file: p.Fset.Position(n.Pos()).Filename})
			}
			continue
		}
		s.assign(p, fields.Field(i), e, whole)
	}
}

// execs are the functions that a program's name goes into, and the arguments before it.
var execs = map[string]int{"os/exec.Command": 0, "os/exec.CommandContext": 1, "os/exec.LookPath": 0}

func (s *source) call(p pkg, n *ast.CallExpr) {
	o := variable(p, n.Fun)
	if o == nil || s.again(p, n) {
		return
	}
	c := site{dots: n.Ellipsis.IsValid(), pkg: p, file: p.Fset.Position(n.Pos()).Filename}
	for _, a := range n.Args {
		c.args = append(c.args, expr{a, p})
	}
	f, _ := o.(*types.Func)
	if f != nil {
		if skip, ok := execs[f.FullName()]; ok {
			c.args = c.args[skip:]
			s.execs = append(s.execs, c)
			return
		}
	}
	at := place(p, o)
	if f != nil && f.Signature().Recv() != nil && types.IsInterface(f.Signature().Recv().Type()) {
		at = signature(f)
	}
	s.calls[at] = append(s.calls[at], c)
	if sig, ok := o.Type().Underlying().(*types.Signature); ok {
		for i, a := range n.Args {
			if lit, ok := a.(*ast.FuncLit); ok && i < sig.Params().Len() {
				s.parameters(p, lit.Type, place(p, sig.Params().At(i)))
			}
		}
	}
}

// variable is what an expression names: a variable, a field, or a function that is called.
func variable(p pkg, e ast.Expr) types.Object {
	switch e := e.(type) {
	case *ast.Ident:
		if o := p.TypesInfo.ObjectOf(e); e.Name != "_" {
			return origin(o)
		}
	case *ast.SelectorExpr:
		return origin(p.TypesInfo.ObjectOf(e.Sel))
	case *ast.ParenExpr:
		return variable(p, e.X)
	case *ast.IndexExpr: // an instance of a generic function
		return variable(p, e.X)
	}
	return nil
}

func origin(o types.Object) types.Object {
	switch o := o.(type) {
	case *types.Func:
		return o.Origin()
	case *types.Var:
		return o.Origin()
	}
	return nil // a type, a builtin
}

// again says whether a node was seen in another variant of its package.
func (s *source) again(p pkg, n ast.Node) bool {
	at := fmt.Sprintf("%T %s %s", n, p.Fset.Position(n.Pos()), p.Fset.Position(n.End()))
	was := s.seen[at]
	s.seen[at] = true
	return was
}

// place is where an object is declared, as one word.
func place(p pkg, o types.Object) string { return p.Fset.Position(o.Pos()).String() + ":" + o.Name() }

func signature(f *types.Func) string {
	s := f.Name() + "("
	for v := range f.Signature().Params().Variables() {
		s += types.TypeString(v.Type(), nil) + ","
	}
	return s + ")" + strconv.FormatBool(f.Signature().Variadic())
}
