package integration

import (
	"testing"
)

// TestNamesOfTheKilled: the name of a container whose namespace ended without a DEL leads
// nowhere some seconds later, where an agent runs.
func TestNamesOfTheKilled(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n, err := b.Network(simon, b.bin)
	must(t, err)
	b.agent()
	one, two := b.named(n, "tomcat81"), b.named(n, "tomcat82")
	one.finds("tomcat82", two.addr)
	must(t, two.Remove())
	b.soon(func() error {
		if out, err := one.sh("getent ahosts tomcat82"); err == nil {
			return errFound(out)
		}
		return nil
	})
	three := b.named(n, "tomcat83")
	one.finds("tomcat83", three.addr)
	three.finds("tomcat81", one.addr)
	must(t, n.Check(one.Container, one.opts...))
}

// errFound is what a name leads to that should not.
type errFound string

func (e errFound) Error() string { return "found " + string(e) }
