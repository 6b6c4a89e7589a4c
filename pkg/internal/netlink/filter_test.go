package netlink

import (
	"slices"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A filter as the callers write them, run on messages.
func TestFilter(t *testing.T) {
	const kind, port, family = 4, 12, unix.NLMSG_HDRLEN
	vm, err := bpf.NewVM(slices.Concat(
		[]bpf.Instruction{Load32(port)}, Case(Host32(42), Drop),
		[]bpf.Instruction{Load16(kind)},
		Case(Host16(unix.RTM_NEWROUTE), slices.Concat([]bpf.Instruction{Load8(family)}, Case(unix.AF_INET6, Pass), []bpf.Instruction{Drop})...),
		Case(Host16(unix.RTM_NEWADDR), Pass),
		[]bpf.Instruction{Drop}))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind   uint16
		port   byte
		family uint8
		pass   bool
	}{
		{unix.RTM_NEWADDR, 1, unix.AF_INET, true}, {unix.RTM_NEWADDR, 42, unix.AF_INET, false},
		{unix.RTM_NEWROUTE, 1, unix.AF_INET6, true}, {unix.RTM_NEWROUTE, 1, unix.AF_INET, false},
		{unix.RTM_DELROUTE, 1, unix.AF_INET6, false},
	} {
		m := NewRequest(c.kind, 0, []byte{c.family, 0, 0, 0}).Append(nil, 1, 0)
		copy(m[port:], AppendUint32(nil, uint32(c.port)))
		if n, err := vm.Run(m); err != nil || (n > 0) != c.pass {
			t.Errorf("%+v: %d, %v", c, n, err)
		}
	}
}
