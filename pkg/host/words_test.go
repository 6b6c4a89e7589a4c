package host

import (
	"slices"
	"testing"
)

func TestNatural(t *testing.T) {
	want := []string{"", "10", "a", "web", "web-1", "web-01", "web-2", "web-2a", "web-10", "web-10-2", "web-10-11", "web-x", "web2", "webx"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, Natural)
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for _, a := range want {
		for _, b := range want {
			if Natural(a, b) != -Natural(b, a) || (Natural(a, b) == 0) != (a == b) {
				t.Errorf("%q and %q: %d, the other way %d", a, b, Natural(a, b), Natural(b, a))
			}
		}
	}
}
